"""How long events take from `publish` until all subscribers have them, measured on samples.

One event at a time is followed, and at most some hundred in a second. So it costs a comparison for an event
that is not followed, and messages need not remember when they were published.
"""

from __future__ import annotations

from time import perf_counter
from typing import final

from .._histogram import HistogramCounter
from .._wire.message import Message

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

# An event that has no place by then never gets one: it was published before, or a log refuses it.
_LONGEST_SECONDS = 60.0


# After an event, none is followed for so long.
_PAUSE_SECONDS = 0.01


@final
class PublishLatency:
    """Follows events.

    Attributes:
        is_free: the next message that is published is to be followed.
        due: from when on `end_batch` is to be called, by `perf_counter`.
        seconds: how long those took that were followed.
    """

    __slots__ = ("_began_at", "_message", "due", "is_free", "seconds")

    def __init__(self) -> None:
        self.is_free = True
        self.due = 0.0
        self.seconds = HistogramCounter(_BOUNDS)
        self._message: Message | None = None
        self._began_at = 0.0

    def follow(self, message: Message) -> None:
        """Follow a message that is being published."""
        self.is_free = False
        self._message = message
        self._began_at = perf_counter()

    def end_batch(self, now: float) -> None:
        """Count the message if it is placed: a batch has been written."""
        if self._message is None:
            self.is_free = True
        elif self._message.sequence:
            self.seconds.add(now - self._began_at)
            self._message = None
            self.due = now + _PAUSE_SECONDS
        elif now - self._began_at > _LONGEST_SECONDS:
            self._message = None
