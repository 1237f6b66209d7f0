"""What an idle connection holds in memory: `python -m benchmarks.idle_memory`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trio

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure
from benchmarks.harness.worker import Worker

TARGET_KIB = 7.0


@dataclass(frozen=True, slots=True)
class Held:
    """What the server holds, and the kernel of the whole machine, in KiB."""

    pss: float
    kernel_slab: float
    kernel_buffers: float

    def each(self, empty: Held, connections: int) -> Held:
        """Give the share of one connection in what came on top of `empty`."""
        return Held(
            pss=(self.pss - empty.pss) / connections,
            kernel_slab=(self.kernel_slab - empty.kernel_slab) / connections,
            kernel_buffers=(self.kernel_buffers - empty.kernel_buffers) / connections,
        )


@dataclass(frozen=True, slots=True)
class _Round:
    """KiB for each connection."""

    idle: Held
    after_streaming: Held


async def measure(settings: Settings) -> list[Figure]:
    measured = [await _round(settings.connections) for _ in range(settings.rounds)]
    unit = "KiB per connection"
    return [
        Figure("idle, proportional set size", unit, tuple(r.idle.pss for r in measured), TARGET_KIB),
        Figure("after 35 events", unit, tuple(r.after_streaming.pss for r in measured)),
        Figure("kernel objects, both ends", unit, tuple(r.idle.kernel_slab for r in measured)),
        Figure("kernel socket buffers, both ends", unit, tuple(r.idle.kernel_buffers for r in measured)),
    ]


async def _round(connections: int) -> _Round:
    async with subjects.native() as (server, port), subjects.load(port) as load:
        empty = await held_by_none(server, load)
        idle = await held_by_idle(server, load, connections)
        await subjects.burst(server, load, connections, 30)
        await subjects.steady(server, load, connections, 5, 100)
        streamed = await held(server)
    return _Round(idle.each(empty, connections), streamed.each(empty, connections))


async def held_by_none(server: Worker, load: Worker) -> Held:
    """Tell what is held without any connection."""
    # The first connection brings in what is loaded or cached on first use: no connection's own.
    await subjects.connect(load, 1)
    await subjects.burst(server, load, 1, 1)
    await load.ask("close")
    await trio.sleep(0.5)
    return await held(server)


async def held_by_idle(server: Worker, load: Worker, connections: int) -> Held:
    """Open connections, and tell what is held with them."""
    await subjects.connect(load, connections)
    await trio.sleep(1)
    return await held(server)


async def held(server: Worker) -> Held:
    """Tell what is held now."""
    return Held(await pss_kib(server), _kernel_slab_kib(), _kernel_buffers_kib())


async def pss_kib(server: Worker) -> float:
    """Tell the proportional set size of a server, after its garbage collection."""
    return (await server.ask("memory"))["pss_bytes"] / 1024


def _kernel_slab_kib() -> float:
    """The kernel's small objects, the sockets' among them, of the whole machine."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return float(line.split()[1])
    return 0.0


def _kernel_buffers_kib() -> float:
    """What all TCP sockets of the machine hold in their buffers; the kernel counts it in pages of 4 KiB."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return float(line.split()[-1]) * 4
    return 0.0


BENCHMARK = Benchmark("idle memory", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
