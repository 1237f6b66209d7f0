"""Histograms with fixed bounds, which cost one addition for each value."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Histogram:
    """How values are distributed, at one moment.

    Attributes:
        bounds: the upper bounds of the buckets, which are part of them, in order.
        counts: how many values each bucket has, and at the end how many are above all bounds.
        sum: what all values add up to.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    def __add__(self, other: Histogram) -> Histogram:
        """Return the values of both, which have the same bounds."""
        counts = tuple(map(sum, zip(self.counts, other.counts, strict=True)))
        return Histogram(self.bounds, counts, self.sum + other.sum)

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)


@final
class HistogramCounter:
    """Counts values for a `Histogram`."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self.counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def snapshot(self, lowest: int = 0, total: float = 0.0) -> Histogram:
        """Return what has been counted, and so many more values in the lowest bucket, with their sum."""
        first, *others = self.counts
        return Histogram(self._bounds, (first + lowest, *others), self.sum + total)
