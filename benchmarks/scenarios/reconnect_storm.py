"""All clients are cut at once, and come back with Last-Event-ID: `python -m benchmarks.reconnect_storm`.

Ten events a second are published all the while. No client waits as a browser would, and as the server asks
it to: this is the worst that can come. An event that is lost or comes twice is an error, and no figure.
"""

from __future__ import annotations

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure
from benchmarks.harness.subjects import Broadcast
from benchmarks.harness.worker import BenchmarkError

EVENTS = 100
MILLISECONDS = 100


async def measure(settings: Settings) -> list[Figure]:
    storms = [await _storm(settings.connections) for _ in range(settings.rounds)]
    return [
        Figure("until all stream again", "s", tuple(storm.returned_seconds for storm in storms)),
        Figure("lost or doubled", "events", (0,) * len(storms)),  # or else there is no figure at all
        Figure("busiest load", "of a core", tuple(storm.load_share for storm in storms)),
    ]


async def _storm(connections: int) -> Broadcast:
    async with subjects.native() as (server, port), subjects.load(port, connections, "--return") as load:
        await subjects.burst(server, load, connections, 1)  # so that all have an id
        command = f"storm {EVENTS} {MILLISECONDS}"
        storm = await subjects.broadcast(server, load, connections, command, EVENTS)
        if storm.returns != connections:
            raise BenchmarkError(f"{storm.returns:.0f} streams came back, not {connections}")
        return storm


BENCHMARK = Benchmark("reconnect storm", 10_000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
