"""Counts of the streams that are open and of those that have ended."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple, final

from .._histogram import Histogram, HistogramCounter
from .end_reason import EndReason
from .listing import ConnectionInfo
from .stream_kind import StreamKind

#: The bounds of durations and ages, in seconds.
DURATION_BOUNDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0)


class StreamEnd(NamedTuple):
    """How a stream has ended.

    Attributes:
        at: when, in seconds since 1970.
        stream: what was known of it then.
        reason: why.
    """

    at: float
    stream: ConnectionInfo
    reason: EndReason


@final
class StreamCounters:
    """What is known of streams without looking at each.

    Attributes:
        open: how many streams of each kind are open.
        ended: how many ended for each reason.
        events_sent, bytes_sent: what those that have ended sent.
        latest_ends: the latest ends, oldest first, if somebody wants to see them.
    """

    def __init__(self) -> None:
        self.open: dict[StreamKind, int] = {}
        self.ended: Counter[EndReason] = Counter()
        self.events_sent = 0
        self.bytes_sent = 0
        self.latest_ends: deque[StreamEnd] | None = None
        self._durations = HistogramCounter(DURATION_BOUNDS)

    def count_open(self, kind: StreamKind) -> None:
        """Count a stream that opens."""
        self.open[kind] = self.open.get(kind, 0) + 1

    def count_end(self, kind: StreamKind, reason: EndReason, duration: float, sent: tuple[int, int]) -> None:
        """Count a stream that has ended after it sent this many events and bytes."""
        self.open[kind] -= 1
        self.ended[reason] += 1
        self._durations.add(duration)
        self.events_sent, self.bytes_sent = self.total_sent([sent])

    @property
    def durations(self) -> Histogram:
        """How long the streams were open that have ended, in seconds."""
        return self._durations.snapshot()

    def total_sent(self, open_streams: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """Return the events and bytes sent by ended streams and by open ones, each given as a pair."""
        events_sent, bytes_sent = self.events_sent, self.bytes_sent
        for events, size in open_streams:
            events_sent += events
            bytes_sent += size
        return events_sent, bytes_sent
