"""Does a connection cost the same among many as among few? `python -m benchmarks.growth`.

Idle memory, set-up, fan-out, and the garbage collector's pauses, for growing numbers. What counts is how much
more they are than with the fewest. Of memory it is what each further connection takes: the first ones find
room that the start has left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import trio

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure
from benchmarks.scenarios import fanout, idle_memory, setup_cost

COUNTS = (1000, 2000, 5000, 10_000, 19_000)

#: How much more the most expensive count may cost than the fewest.
TARGET_RATIO = 1.15


@dataclass(frozen=True, slots=True)
class _Costs:
    """What one connection, or one delivery to it, costs among so many."""

    idle_kib: float
    setup: float
    burst: float
    steady: float
    collection_milliseconds: float  # the longest, while they come
    full_collection_milliseconds: float  # of one that is asked for


async def measure(settings: Settings) -> list[Figure]:
    counts = [count for count in COUNTS if count <= settings.connections]
    costs: dict[int, list[_Costs]] = {count: [] for count in counts}
    for _ in range(settings.rounds):
        for count in counts:
            costs[count].append(await _turn(count))
    idle = _figures("idle", "KiB per connection", costs, lambda cost: cost.idle_kib)
    setup = _figures("set-up", "us per connection", costs, lambda cost: cost.setup)
    burst = _figures("burst", fanout.UNIT, costs, lambda cost: cost.burst)
    steady = _figures("steady", fanout.UNIT, costs, lambda cost: cost.steady)
    further = [
        (more * figure.median - fewer * before.median) / (more - fewer)
        for (fewer, before), (more, figure) in pairwise(zip(counts, idle, strict=True))
    ]
    return [
        *idle,
        _growth("idle, each further one", further),
        *setup,
        _growth("set-up", [figure.median for figure in setup]),
        *burst,
        _growth("burst", [figure.median for figure in burst]),
        *steady,
        _growth("steady", [figure.median for figure in steady]),
        *_figures("longest collection as they come", "ms", costs, lambda c: c.collection_milliseconds),
        *_figures("a full collection", "ms", costs, lambda c: c.full_collection_milliseconds),
    ]


def _growth(name: str, medians: list[float]) -> Figure:
    return Figure(f"{name}, growth", "of the fewest", (max(medians) / medians[0],), TARGET_RATIO)


def _figures(
    name: str,
    unit: str,
    costs: dict[int, list[_Costs]],
    pick: Callable[[_Costs], float],
) -> list[Figure]:
    return [Figure(f"{name}, {count}", unit, tuple(pick(cost) for cost in costs[count])) for count in costs]


async def _turn(count: int) -> _Costs:
    async with subjects.native() as (server, port), subjects.load(port) as load:
        empty = await idle_memory.held_by_none(server, load)
        await server.ask("probe start")
        await subjects.connect(load, count)
        collection = (await server.ask("probe stop"))["longest_collection_seconds"]
        await trio.sleep(1)
        await server.ask("probe start")
        idle = await idle_memory.held(server)
        full_collection = (await server.ask("probe stop"))["longest_collection_seconds"]
        delivered = await fanout.deliver(server, load, count, fanout.FULL)
    return _Costs(
        idle.each(empty, count).pss,
        await setup_cost.take_in(subjects.native, count),
        delivered.burst_microseconds,
        delivered.steady.microseconds,
        collection * 1000,
        full_collection * 1000,
    )


BENCHMARK = Benchmark("growth", 19_000, measure, fewest=COUNTS[1])

if __name__ == "__main__":
    main([BENCHMARK])
