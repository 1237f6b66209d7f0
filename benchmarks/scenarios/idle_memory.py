"""How much memory an idle connection takes: `python -m benchmarks.idle_memory`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trio

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.worker import Worker

TARGET_KIB = 7.0
TARGET_MONITORING_BYTES = 100.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the server, and of the kernel of the whole machine, in KiB."""

    pss: float
    kernel_slab: float
    kernel_buffers: float

    def per_connection(self, empty: Memory, connections: int) -> Memory:
        """Return the increase over `empty` per connection."""
        return Memory(
            pss=(self.pss - empty.pss) / connections,
            kernel_slab=(self.kernel_slab - empty.kernel_slab) / connections,
            kernel_buffers=(self.kernel_buffers - empty.kernel_buffers) / connections,
        )


@dataclass(frozen=True, slots=True)
class _Round:
    """KiB per connection."""

    idle: Memory
    after_streaming: Memory


async def measure(settings: Settings) -> list[Measurement]:
    measured = [await _round(subjects.native, settings.connections) for _ in range(settings.rounds)]
    unit = "KiB per connection"
    return [
        Measurement("idle, proportional set size", unit, tuple(r.idle.pss for r in measured), TARGET_KIB),
        Measurement("after 35 events", unit, tuple(r.after_streaming.pss for r in measured)),
        Measurement("kernel objects, both ends", unit, tuple(r.idle.kernel_slab for r in measured)),
        Measurement("kernel socket buffers, both ends", unit, tuple(r.idle.kernel_buffers for r in measured)),
    ]


async def compare_monitoring(settings: Settings) -> list[Measurement]:
    """Compare with metrics and logs, and with traces, too, in the same rounds."""
    subject = (subjects.native, subjects.native_monitored, subjects.native_traced)
    rounds = [
        [await _round(start, settings.connections) for start in subject] for _ in range(settings.rounds)
    ]
    columns = zip(*rounds, strict=True)
    plain, monitored, traced = (tuple(each.idle.pss for each in column) for column in columns)

    def more(name: str, values: tuple[float, ...], target: float | None) -> Measurement:
        differences = tuple((ours - theirs) * 1024 for ours, theirs in zip(values, plain, strict=True))
        return Measurement(f"{name}, more", "bytes per connection", differences, target)

    unit = "KiB per connection"
    return [
        Measurement("idle", unit, plain, TARGET_KIB),
        Measurement("idle, metrics and logs", unit, monitored),
        more("idle, metrics and logs", monitored, TARGET_MONITORING_BYTES),
        Measurement("idle, and traces", unit, traced),
        more("idle, and traces", traced, None),
    ]


async def _round(start: subjects.StartServer, connections: int) -> _Round:
    async with start() as (server, port), subjects.load(port) as load:
        empty = await empty_memory(server, load)
        idle = await idle_memory(server, load, connections)
        await broadcasts.burst(server, load, connections, 30)
        await broadcasts.steady(server, load, connections, 5, 100)
        streamed = await memory(server)
    return _Round(idle.per_connection(empty, connections), streamed.per_connection(empty, connections))


async def empty_memory(server: Worker, load: Worker) -> Memory:
    """Return the memory without connections."""
    # The first connection loads and caches what is needed once. That is not part of a connection.
    await subjects.connect(load, 1)
    await broadcasts.burst(server, load, 1, 1)
    await load.ask("close")
    await trio.sleep(0.5)
    return await memory(server)


async def idle_memory(server: Worker, load: Worker, connections: int) -> Memory:
    """Open connections, and return the memory with them."""
    await subjects.connect(load, connections)
    await trio.sleep(1)
    return await memory(server)


async def memory(server: Worker) -> Memory:
    """Return the current memory."""
    return Memory(await pss_kib(server), _kernel_slab_kib(), _kernel_buffers_kib())


async def pss_kib(server: Worker) -> float:
    """Return the proportional set size of a server after a garbage collection."""
    return (await server.ask("memory"))["pss_bytes"] / 1024


def _kernel_slab_kib() -> float:
    """Return the kernel's small objects of the whole machine. Sockets are among them."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return float(line.split()[1])
    return 0.0


def _kernel_buffers_kib() -> float:
    """Return the buffers of all TCP sockets of the machine. The kernel counts pages of 4 KiB."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return float(line.split()[-1]) * 4
    return 0.0


BENCHMARK = Benchmark("idle memory", 4000, measure, compare_monitoring=compare_monitoring)

if __name__ == "__main__":
    main([BENCHMARK])
