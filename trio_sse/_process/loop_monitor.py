"""How long the event loop's turns take: while a turn lasts, everything else waits.

A turn is what Trio does between two looks at the system: one step of each task that is ready. The watchdog
measures them.
"""

from __future__ import annotations

from time import perf_counter
from typing import final

from .._histogram import HistogramCounter

_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# The longest turn is that of the last one or two such periods.
_PERIOD_SECONDS = 30.0


@final
class LoopMonitor:
    """Counts turns.

    Attributes:
        turns: how long they took, in seconds.
    """

    def __init__(self) -> None:
        self.turns = HistogramCounter(_BOUNDS)
        self._period_began_at = perf_counter()
        self._longest = self._longest_before = 0.0

    @property
    def longest(self) -> float:
        """How many seconds the longest turn of the last half minute took, or of the last minute."""
        self._turn_period(perf_counter())
        return max(self._longest, self._longest_before)

    def add(self, seconds: float, now: float) -> None:
        """Count a turn that has just ended."""
        turns = self.turns
        if seconds <= 0.001:  # nearly always
            turns.counts[0] += 1
            turns.sum += seconds
        else:
            turns.add(seconds)
        if seconds > self._longest:
            self._turn_period(now)
            self._longest = max(seconds, self._longest)

    def _turn_period(self, now: float) -> None:
        periods = (now - self._period_began_at) // _PERIOD_SECONDS
        if periods:
            self._longest_before = self._longest if periods == 1 else 0.0
            self._longest = 0.0
            self._period_began_at += periods * _PERIOD_SECONDS
