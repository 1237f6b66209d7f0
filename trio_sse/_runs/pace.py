"""How far apart the flushes of a run are: further while the node cannot keep up.

What a flush costs does not depend on how much it writes. So when a node has too much to do, each run is
flushed less often. Then what is written is older, but by a bounded time, and nothing waits in a queue.

The interval grows with each round of flushes that is late, and shrinks slowly while none is. One that
followed the newest lateness at once would swing between too much work and none.
"""

from __future__ import annotations

from typing import final

# It does not grow beyond this.
_LONGEST_SECONDS = 0.25

# A round is late after so many seconds, and after this part of the interval.
_LATE_SECONDS = 0.004
_LATE_PART = 0.1

# The most by which a late round lets the interval grow.
_GROWTH = 0.25

# In so many seconds, the interval shrinks by half.
_HALVING_SECONDS = 1.0


@final
class FlushPace:
    """Adapts the time between two flushes of a run to how late they are.

    Args:
        interval: the shortest time.

    Attributes:
        interval: the time now.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._shortest = interval
        self._longest = max(interval, _LONGEST_SECONDS)
        self._noted_at = 0.0

    def note(self, late: float, now: float) -> None:
        """Note how many seconds after their time flushes begin."""
        interval = self.interval
        if late > max(_LATE_SECONDS, _LATE_PART * interval):
            self.interval = min(interval * (1 + _GROWTH * min(late / interval, 1)), self._longest)
        elif interval > self._shortest:
            halvings = (now - self._noted_at) / _HALVING_SECONDS
            self.interval = max(interval * 0.5**halvings, self._shortest)
        self._noted_at = now
