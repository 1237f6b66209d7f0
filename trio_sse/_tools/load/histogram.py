"""How measured times are distributed, in a memory that doesn't grow with their number.

The first eight binary digits of a value in microseconds are kept, which is within 0.4 % of it: 128 counts for
each doubling, so that some 5,000 tell all apart from a microsecond to a year.
"""

from __future__ import annotations

from typing import final

_DIGITS = 8


@final
class Distribution:
    """Counts milliseconds, which may be less than none, and gives their percentiles.

    Attributes:
        count: of all values.
    """

    __slots__ = ("_counts", "_most", "count")

    def __init__(self) -> None:
        self.count = 0
        self._most = -float("inf")
        self._counts: dict[int, int] = {}

    def add(self, milliseconds: float) -> None:
        """Count a value."""
        self.count += 1
        if milliseconds > self._most:
            self._most = milliseconds
        value = int(milliseconds * 1000)
        dropped = value.bit_length() - _DIGITS
        if dropped > 0:
            value = value >> dropped << dropped | 1 << (dropped - 1)  # the middle of what begins so
        self._counts[value] = self._counts.get(value, 0) + 1

    def percentiles(self) -> dict[str, float]:
        """Give the median, 90 %, 99 %, and the largest, which is exact; nothing of nothing."""
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
        return {**found, "max": round(self._most, 3)}
