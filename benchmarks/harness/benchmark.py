"""What each scenario provides: a name, a size, and a function that measures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.harness.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Settings:
    """How much to measure."""

    connections: int
    rounds: int
    events: int = 0


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One scenario.

    Attributes:
        connections: how many streams it opens by default.
        measure: runs it and returns its measurements.
        fewest: the fewest connections that it works with.
        events: how many events it publishes in each turn, if that can be chosen.
        compare_monitoring: what `--monitoring` runs instead, if there is something.
    """

    name: str
    connections: int
    measure: Callable[[Settings], Awaitable[list[Measurement]]]
    fewest: int = 1
    events: int = 0
    compare_monitoring: Callable[[Settings], Awaitable[list[Measurement]]] | None = None
