"""The distribution of measured times, in memory that does not grow with their number.

A value in microseconds is rounded to its first eight binary digits, which is within 0.4 %. That makes 128
counts for each doubling, and some 5,000 from a microsecond to a year.
"""

from __future__ import annotations

from typing import final

_DIGITS = 8


@final
class Distribution:
    """Counts durations in milliseconds, which may be negative, and computes percentiles.

    Attributes:
        count: how many values were added.
    """

    __slots__ = ("_counts", "_largest", "count")

    def __init__(self) -> None:
        self.count = 0
        self._largest = -float("inf")
        self._counts: dict[int, int] = {}

    def add(self, milliseconds: float) -> None:
        """Add a value."""
        self.count += 1
        if milliseconds > self._largest:
            self._largest = milliseconds
        value = int(milliseconds * 1000)
        dropped = value.bit_length() - _DIGITS
        if dropped > 0:
            value = value >> dropped << dropped | 1 << (
                dropped - 1
            )  # the middle of the values with these digits
        self._counts[value] = self._counts.get(value, 0) + 1

    def percentiles(self) -> dict[str, float]:
        """Return p50, p90, p99 and the exact maximum, or nothing if no value was added."""
        if not self.count:
            return {}
        found = {}
        ordered = iter(sorted(self._counts.items()))
        value, passed = 0, 0
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            while passed <= int(share * self.count):
                value, count = next(ordered)
                passed += count
            found[name] = value / 1000
        return {**found, "max": round(self._largest, 3)}
