"""How long events take from `publish` until all subscribers have them, measured on samples.

One event at a time is followed: the first that is published when the one before has been delivered. So it
costs a comparison for an event that is not followed, and messages need not remember when they were published.
"""

from __future__ import annotations

from time import perf_counter
from typing import final

from .._histogram import HistogramCounter
from .._wire.message import Message

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

# An event that has no place by then never gets one: it was published before, or a log refuses it.
_LONGEST_SECONDS = 60.0


@final
class PublishLatency:
    """Follows events.

    Attributes:
        message: the one that is followed.
        seconds: how long those took that were.
    """

    __slots__ = ("_began_at", "message", "seconds")

    def __init__(self) -> None:
        self.message: Message | None = None
        self.seconds = HistogramCounter(_BOUNDS)
        self._began_at = 0.0

    def follow(self, message: Message) -> None:
        """Follow a message that is being published; do this only while none is followed."""
        self.message = message
        self._began_at = perf_counter()

    def end_batch(self, now: float) -> None:
        """Count the message if it is placed: a batch has been written, by `perf_counter`."""
        if self.message is None:
            return
        if self.message.sequence:
            self.seconds.add(now - self._began_at)
            self.message = None
        elif now - self._began_at > _LONGEST_SECONDS:
            self.message = None
