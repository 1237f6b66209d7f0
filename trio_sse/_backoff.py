"""Exponential back-off with jitter, for whatever is tried again after a failure."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

_MOST_DOUBLINGS = 64  # more would only make a number that no float holds


def delay(attempt: int, first: float, longest: float) -> float:
    """Return how many seconds to wait before an attempt, counted from 0.

    The delay is `first` seconds, doubles with each attempt up to `longest`, and has up to 50 % jitter.
    """
    return min(first * 2.0 ** min(attempt, _MOST_DOUBLINGS), longest) * random.uniform(0.5, 1)


def delays(first: float, longest: float) -> Iterator[float]:
    """Yield the delay before each attempt, forever; see `delay`."""
    return (delay(attempt, first, longest) for attempt in itertools.count())
