"""Samples over a long run, and how they grow."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

#: The share of the connections until everything that is loaded, cached or allocated once has been.
WARM_UP = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server holds after so many connections, when all have ended.

    Attributes:
        cpu: the CPU time since it started, in seconds.
    """

    connects: int
    kib: float
    descriptors: float
    tasks: float
    cpu: float


@final
@dataclass(frozen=True, slots=True)
class Slopes:
    """How much the server grows.

    Attributes:
        kib, descriptors, tasks: for each 100,000 connections.
        first_us, last_us: CPU time of a connection, in the first tenth after the warm-up, and in the last.
    """

    kib: float
    descriptors: float
    tasks: float
    first_us: float
    last_us: float

    @property
    def slower(self) -> float:
        """By how many percent a connection costs more at the end."""
        return 100.0 * (self.last_us / self.first_us - 1.0)

    def faults(self, *, kib: float, slower: float) -> list[str]:
        """Return which bounds are broken: of memory, of the cost, and of what must not grow at all."""
        found = []
        if self.kib > kib:
            found.append(f"memory grows by {self.kib:.0f} KiB in 100,000 connections")
        if self.slower > slower:
            found.append(f"a connection costs {self.slower:.0f} % more at the end")
        for name, value in (("descriptors", self.descriptors), ("tasks", self.tasks)):
            if value > 1.0:
                found.append(f"{name} grow by {value:.1f} in 100,000 connections")
        return found


def fit(samples: Sequence[Sample]) -> Slopes:
    """Return the slopes of samples, of which the first is from before the first connection.

    Raises:
        ValueError: there are too few samples.
    """
    total = samples[-1].connects
    settled = [sample for sample in samples if sample.connects >= total * WARM_UP]
    if len(settled) < 3:
        raise ValueError(f"{len(settled)} samples after the warm-up are too few")
    tenth = max(1, len(settled) // 10)
    return Slopes(
        _slope(settled, [sample.kib for sample in settled]),
        _slope(settled, [sample.descriptors for sample in settled]),
        _slope(settled, [sample.tasks for sample in settled]),
        _cost(settled[0], settled[tenth]),
        _cost(settled[-1 - tenth], settled[-1]),
    )


def _slope(samples: Sequence[Sample], values: Sequence[float]) -> float:
    connects = [float(sample.connects) for sample in samples]
    return statistics.linear_regression(connects, values).slope * 100_000


def _cost(first: Sample, last: Sample) -> float:
    return (last.cpu - first.cpu) / (last.connects - first.connects) * 1e6
