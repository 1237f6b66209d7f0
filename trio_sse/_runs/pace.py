"""How far apart the flushes of a run are: further while the node cannot keep up.

What a flush costs does not depend on how much it writes. So when a node has too much to do, each run is
flushed less often. Then what is written is older, but by a bounded time, and nothing waits in a queue.
"""

from __future__ import annotations

from typing import final

# The interval is so many times as long as flushes are late.
_TIMES_LATE = 8.0

# It does not grow beyond this.
_LONGEST_SECONDS = 0.25

# The share of the newest value in the average of lateness: a short pause of the loop counts for little.
_NEWEST = 0.2


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
        self._late = 0.0

    def note(self, late: float) -> None:
        """Note how many seconds after their time flushes begin."""
        # No value counts for more than the longest interval, so that this forgets even a long pause soon.
        self._late += (min(late, self._longest / _TIMES_LATE) - self._late) * _NEWEST
        self.interval = max(self._shortest, self._late * _TIMES_LATE)
