"""From publish to receipt, with many connections and ten events a second: `python -m benchmarks.latency`.

The client that is written to last counts, so the latency is nearly the duration of a broadcast. The kernel's
`send` bounds it, so the floor is measured next to it.
"""

from __future__ import annotations

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.broadcasts import Broadcast
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio

EVENTS = 50
MILLISECONDS = 100

TARGET_RATIO = 1.5

_PERCENTILES = ("median", "99 %", "longest")


async def measure(settings: Settings) -> list[Measurement]:
    subject: list[Broadcast] = []
    floor: list[Broadcast] = []
    for _ in range(settings.rounds):
        subject.append(await _turn(subjects.native, settings.connections))
        floor.append(await _turn(subjects.floor, settings.connections))
    ours, floors = _measurements("latency", subject), _measurements("latency, floor", floor)
    return [
        *ours,
        *floors,
        ratio(ours[1], floors[1], "the floor", TARGET_RATIO),
        Measurement("server's share", "of a core", tuple(_share(b) for b in subject)),
        Measurement("busiest load", "of a core", tuple(b.load_share for b in (*subject, *floor))),
    ]


def _measurements(name: str, broadcasts: list[Broadcast]) -> list[Measurement]:
    return [
        Measurement(f"{name}, {percentile}", "ms", tuple(b.latencies[index] for b in broadcasts))
        for index, percentile in enumerate(_PERCENTILES)
    ]


def _share(broadcast: Broadcast) -> float:
    return broadcast.cpu_seconds / broadcast.seconds


async def _turn(start_server: subjects.StartServer, connections: int) -> Broadcast:
    async with start_server() as (server, port), subjects.load(port, connections) as load:
        await broadcasts.stamped(server, load, connections, 5, MILLISECONDS)
        return await broadcasts.stamped(server, load, connections, EVENTS, MILLISECONDS)


BENCHMARK = Benchmark("latency", 10_000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
