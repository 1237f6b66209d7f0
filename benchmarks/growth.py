"""Does a connection cost the same among many as among few? `python -m benchmarks.growth`.

Idle memory, set-up, fan-out, and the longest pause of the garbage collector, for growing numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import _subjects, fanout, idle_memory, setup_cost
from ._command_line import Benchmark, Settings, main
from ._figures import Figure

COUNTS = (1000, 2000, 5000, 10_000, 19_000)

#: How much more the most expensive count may cost than the cheapest.
TARGET_RATIO = 1.15


@dataclass(frozen=True, slots=True)
class _Costs:
    """What one connection, or one delivery to it, costs among so many."""

    idle_kib: float
    setup: float
    burst: float
    steady: float
    collection_milliseconds: float


async def measure(settings: Settings) -> list[Figure]:
    counts = [count for count in COUNTS if count <= settings.connections]
    costs: dict[int, list[_Costs]] = {count: [] for count in counts}
    for _ in range(settings.rounds):
        for count in counts:
            costs[count].append(await _turn(count))
    return [
        *_figures("idle", "KiB per connection", costs, lambda cost: cost.idle_kib, TARGET_RATIO),
        *_figures("set-up", "us per connection", costs, lambda cost: cost.setup),
        *_figures("burst", fanout.UNIT, costs, lambda cost: cost.burst, TARGET_RATIO),
        *_figures("steady", fanout.UNIT, costs, lambda cost: cost.steady, TARGET_RATIO),
        *_figures("longest garbage collection", "ms", costs, lambda cost: cost.collection_milliseconds),
    ]


def _figures(
    name: str,
    unit: str,
    costs: dict[int, list[_Costs]],
    pick: Callable[[_Costs], float],
    target: float | None = None,
) -> list[Figure]:
    figures = [
        Figure(f"{name}, {count}", unit, tuple(pick(cost) for cost in costs[count])) for count in costs
    ]
    medians = [figure.median for figure in figures]
    if target is not None:
        figures.append(Figure(f"{name}, growth", "of the cheapest", (max(medians) / min(medians),), target))
    return figures


async def _turn(count: int) -> _Costs:
    async with _subjects.native() as (server, port), _subjects.load(port) as load:
        empty = await idle_memory.held_by_none(server, load)
        await server.ask("probe start")
        idle = await idle_memory.held_by_idle(server, load, count)
        collection = (await server.ask("probe stop"))["longest_collection_seconds"]
        delivered = await fanout.deliver(server, load, count, fanout.FULL)
    return _Costs(
        idle.each(empty, count).pss,
        await setup_cost.take_in(_subjects.native, count),
        delivered.burst_microseconds,
        delivered.steady.microseconds,
        collection * 1000,
    )


BENCHMARK = Benchmark("growth", 19_000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
