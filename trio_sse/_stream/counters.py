"""Counts of the streams that have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import final

from .end_reason import EndReason


@final
class StreamCounters:
    """What the streams that have ended add up to.

    Attributes:
        ended: how many ended for each reason.
        events_sent, bytes_sent: what they sent.
    """

    def __init__(self) -> None:
        self.ended: Counter[EndReason] = Counter()
        self.events_sent = 0
        self.bytes_sent = 0

    def count_end(self, reason: EndReason, sent: tuple[int, int]) -> None:
        """Count a stream that has ended after it sent this many events and bytes."""
        self.ended[reason] += 1
        self.events_sent, self.bytes_sent = self.total_sent([sent])

    def total_sent(self, open_streams: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """Return the events and bytes sent by ended streams and by open ones, each given as a pair."""
        events_sent, bytes_sent = self.events_sent, self.bytes_sent
        for events, size in open_streams:
            events_sent += events
            bytes_sent += size
        return events_sent, bytes_sent
