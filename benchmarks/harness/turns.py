"""Measuring several things in turns, so that a slow machine slows all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.harness.benchmark import Settings
from benchmarks.harness.measurement import Measurement, ratio

#: `among_fewer_and_most` compares with one among so many times fewer.
FEWER = 10


async def in_turns(rounds: int, *costs: Callable[[], Awaitable[float]]) -> list[tuple[float, ...]]:
    """Measure each of the costs in each round; return the values of each."""
    values: list[list[float]] = [[] for _ in costs]
    for _ in range(rounds):
        for of_cost, cost in zip(values, costs, strict=True):
            of_cost.append(await cost())
    return [tuple(of_cost) for of_cost in values]


async def among_fewer_and_most(
    settings: Settings, cost: Callable[[int], Awaitable[float]], what: str, unit: str, target_ratio: float
) -> list[Measurement]:
    """Measure what one costs among all that there are, and among a tenth of them.

    Args:
        cost: returns the cost of one among a number of them.
        what: names them.
    """
    few = settings.connections // FEWER
    fewer, most = await in_turns(settings.rounds, lambda: cost(few), lambda: cost(settings.connections))
    among_fewer = Measurement(f"{few} {what}", unit, fewer)
    among_most = Measurement(f"{settings.connections} {what}", unit, most)
    return [among_fewer, among_most, ratio(among_most, among_fewer, "a tenth of them", target_ratio)]
