"""From publish to receipt, with many connections and ten events a second: `python -m benchmarks.latency`.

The time that counts is that of the last to be written to, which is nearly the time that a broadcast takes:
it is the machine's `send` that bounds it, so the floor stands beside it.
"""

from __future__ import annotations

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure, ratio
from benchmarks.harness.subjects import Broadcast

EVENTS = 50
MILLISECONDS = 100

TARGET_RATIO = 1.5

_PERCENTILES = ("median", "99 %", "longest")


async def measure(settings: Settings) -> list[Figure]:
    subject: list[Broadcast] = []
    floor: list[Broadcast] = []
    for _ in range(settings.rounds):
        subject.append(await _turn(subjects.native, settings.connections))
        floor.append(await _turn(subjects.floor, settings.connections))
    ours, floors = _figures("latency", subject), _figures("latency, floor", floor)
    return [
        *ours,
        *floors,
        ratio(ours[1], floors[1], "floor", TARGET_RATIO),
        Figure("server's share", "of a core", tuple(_share(b) for b in subject)),
        Figure("busiest load", "of a core", tuple(b.load_share for b in (*subject, *floor))),
    ]


def _figures(name: str, broadcasts: list[Broadcast]) -> list[Figure]:
    return [
        Figure(f"{name}, {percentile}", "ms", tuple(b.latencies[index] for b in broadcasts))
        for index, percentile in enumerate(_PERCENTILES)
    ]


def _share(broadcast: Broadcast) -> float:
    return broadcast.cpu_seconds / broadcast.seconds


async def _turn(start_server: subjects.StartServer, connections: int) -> Broadcast:
    async with start_server() as (server, port), subjects.load(port, connections) as load:
        await subjects.stamped(server, load, connections, 5, MILLISECONDS)
        return await subjects.stamped(server, load, connections, EVENTS, MILLISECONDS)


BENCHMARK = Benchmark("latency", 10_000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
