"""What an idle connection holds in memory: `python -m benchmarks.idle_memory`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trio

from . import _subjects
from ._command_line import Benchmark, Settings, main
from ._figures import Figure
from ._harness import Worker

TARGET_KIB = 8.0


@dataclass(frozen=True, slots=True)
class _Round:
    """KiB for each connection."""

    idle: float
    after_streaming: float
    kernel_slab: float
    kernel_buffers: float


async def measure(settings: Settings) -> list[Figure]:
    measured = [await _round(settings.connections) for _ in range(settings.rounds)]
    unit = "KiB per connection"
    return [
        Figure("idle, proportional set size", unit, tuple(r.idle for r in measured), TARGET_KIB),
        Figure("after 35 events", unit, tuple(r.after_streaming for r in measured)),
        Figure("kernel objects, both ends", unit, tuple(r.kernel_slab for r in measured)),
        Figure("kernel socket buffers, both ends", unit, tuple(r.kernel_buffers for r in measured)),
    ]


async def _round(connections: int) -> _Round:
    async with _subjects.native() as (server, port), _subjects.load(port) as load:
        # The first connection brings in what is loaded or cached on first use: no connection's own.
        await _subjects.connect(load, 1)
        await _subjects.burst(server, load, 1, 1)
        await load.ask("close")
        await trio.sleep(0.5)
        empty = await _pss_kib(server)
        slab, buffers = _kernel_slab_kib(), _kernel_buffers_kib()

        await _subjects.connect(load, connections)
        await trio.sleep(1)
        idle = await _pss_kib(server)
        idle_slab, idle_buffers = _kernel_slab_kib(), _kernel_buffers_kib()

        await _subjects.burst(server, load, connections, 30)
        await _subjects.steady(server, load, connections, 5, 100)
        streamed = await _pss_kib(server)
    return _Round(
        idle=(idle - empty) / connections,
        after_streaming=(streamed - empty) / connections,
        kernel_slab=(idle_slab - slab) / connections,
        kernel_buffers=(idle_buffers - buffers) / connections,
    )


async def _pss_kib(server: Worker) -> float:
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
