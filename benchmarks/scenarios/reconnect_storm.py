"""All clients lose their connections at once and reconnect: `python -m benchmarks.reconnect_storm`.

Ten events a second are published meanwhile. The server asks clients to wait before they reconnect, and
browsers do. These clients do not wait, so this is the worst case. The benchmark fails if an event is lost or
repeated.
"""

from __future__ import annotations

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.broadcasts import Broadcast
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.worker import BenchmarkError

EVENTS = 100
MILLISECONDS = 100


async def measure(settings: Settings) -> list[Measurement]:
    storms = [await _storm(settings.connections) for _ in range(settings.rounds)]
    return [
        Measurement("until all streams are back", "s", tuple(storm.reconnect_seconds for storm in storms)),
        Measurement("lost or repeated", "events", (0,) * len(storms)),  # or else the benchmark fails
        Measurement("busiest load", "of a core", tuple(storm.load_share for storm in storms)),
    ]


async def _storm(connections: int) -> Broadcast:
    async with subjects.native() as (server, port), subjects.load(port, connections, "--reconnect") as load:
        await broadcasts.burst(server, load, connections, 1)  # so that all have an id
        command = f"storm {EVENTS} {MILLISECONDS}"
        storm = await broadcasts.broadcast(server, load, connections, command, EVENTS)
        if storm.reconnects != connections:
            raise BenchmarkError(f"{storm.reconnects:.0f} streams reconnected, not {connections}")
        return storm


BENCHMARK = Benchmark("reconnect storm", 10_000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
