"""Clocks that tests set."""

from __future__ import annotations


class StoppedClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
