"""Does a connection among many cost the same as one among few? `python -m benchmarks.growth`.

It measures idle memory, set-up, fan-out and the garbage collector's pauses for a growing number of
connections. The result is how much more they cost than with the fewest connections. For memory, only each
further connection counts, because the first ones use memory that is left from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import trio

from benchmarks.harness import subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement
from benchmarks.scenarios import fanout, idle_memory, setup_cost

COUNTS = (1000, 2000, 5000, 10_000, 19_000)

#: The most that any count may cost, relative to the fewest connections.
TARGET_RATIO = 1.15


@dataclass(frozen=True, slots=True)
class _Costs:
    """What one connection, or one delivery, costs at one count."""

    idle_kib: float
    setup: float
    burst: float
    steady: float
    collection_milliseconds: float  # the longest, while clients connect
    full_collection_milliseconds: float  # of a requested collection


async def measure(settings: Settings) -> list[Measurement]:
    counts = [count for count in COUNTS if count <= settings.connections]
    costs: dict[int, list[_Costs]] = {count: [] for count in counts}
    for _ in range(settings.rounds):
        for count in counts:
            costs[count].append(await _turn(count))
    idle = _measurements("idle", "KiB per connection", costs, lambda cost: cost.idle_kib)
    setup = _measurements("set-up", "us per connection", costs, lambda cost: cost.setup)
    burst = _measurements("burst", fanout.UNIT, costs, lambda cost: cost.burst)
    steady = _measurements("steady", fanout.UNIT, costs, lambda cost: cost.steady)
    further = [
        (more * measurement.median - fewer * before.median) / (more - fewer)
        for (fewer, before), (more, measurement) in pairwise(zip(counts, idle, strict=True))
    ]
    return [
        *idle,
        _growth("idle, each further one", further),
        *setup,
        _growth("set-up", [measurement.median for measurement in setup]),
        *burst,
        _growth("burst", [measurement.median for measurement in burst]),
        *steady,
        _growth("steady", [measurement.median for measurement in steady]),
        *_measurements(
            "longest collection while connecting", "ms", costs, lambda c: c.collection_milliseconds
        ),
        *_measurements("a full collection", "ms", costs, lambda c: c.full_collection_milliseconds),
    ]


def _growth(name: str, medians: list[float]) -> Measurement:
    return Measurement(f"{name}, growth", "of the fewest", (max(medians) / medians[0],), TARGET_RATIO)


def _measurements(
    name: str,
    unit: str,
    costs: dict[int, list[_Costs]],
    pick: Callable[[_Costs], float],
) -> list[Measurement]:
    return [
        Measurement(f"{name}, {count}", unit, tuple(pick(cost) for cost in costs[count])) for count in costs
    ]


async def _turn(count: int) -> _Costs:
    async with subjects.native() as (server, port), subjects.load(port) as load:
        empty = await idle_memory.empty_memory(server, load)
        await server.ask("probe start")
        await subjects.connect(load, count)
        collection = (await server.ask("probe stop"))["longest_collection_seconds"]
        await trio.sleep(1)
        await server.ask("probe start")
        idle = await idle_memory.memory(server)
        full_collection = (await server.ask("probe stop"))["longest_collection_seconds"]
        delivered = await fanout.deliver(server, load, count, fanout.FULL)
    return _Costs(
        idle.per_connection(empty, count).pss,
        await setup_cost.connect_cost(subjects.native, count),
        delivered.burst_microseconds,
        delivered.steady.microseconds,
        collection * 1000,
        full_collection * 1000,
    )


BENCHMARK = Benchmark("growth", 19_000, measure, fewest=COUNTS[1])

if __name__ == "__main__":
    main([BENCHMARK])
