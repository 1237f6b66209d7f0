"""Statistics of streams: counters that are kept anyway, and a visit to each open stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from .._histogram import Histogram, HistogramCounter
from .._hub.statistics import HubStatistics
from .._pausing import Pausing
from .counters import DURATION_BOUNDS, StreamCounters
from .end_reason import EndReason
from .stream_kind import StreamKind

# As many streams are looked at in about half a millisecond.
_STREAMS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """Statistics of an app's streams at one moment.

    Attributes:
        open_streams: streams that are open.
        opened: streams that were ever opened.
        ended: how many of them ended for each reason.
        events_sent, bytes_sent: over all streams, replayed events included.
        streams, ages, oldest, durations: as in `ServerStatistics`.
        hub: the hub's statistics.
    """

    open_streams: int
    opened: int
    ended: Mapping[EndReason, int]
    events_sent: int
    bytes_sent: int
    streams: Mapping[StreamKind, int]
    ages: Histogram
    oldest: float
    durations: Histogram
    hub: HubStatistics


def added_statistics(each: Sequence[StreamStatistics]) -> StreamStatistics:
    """Return the sum of the statistics of several endpoints; of one hub, which is that of the first."""
    first, *others = each
    ended, streams = Counter(first.ended), Counter(first.streams)
    ages, durations = first.ages, first.durations
    for other in others:
        ended += Counter(other.ended)
        streams += Counter(other.streams)
        ages += other.ages
        durations += other.durations
    return StreamStatistics(
        open_streams=sum(one.open_streams for one in each),
        opened=sum(one.opened for one in each),
        ended=dict(ended),
        events_sent=sum(one.events_sent for one in each),
        bytes_sent=sum(one.bytes_sent for one in each),
        streams=dict(streams),
        ages=ages,
        oldest=max(one.oldest for one in each),
        durations=durations,
        hub=first.hub,
    )


class CountedStream(Protocol):
    """What statistics need of an open stream."""

    def sent(self) -> tuple[int, int]:
        """Return how many events and bytes it has sent."""

    @property
    def duration(self) -> float:
        """Seconds since it was opened."""


def stream_statistics(
    streams: Sequence[CountedStream], counters: StreamCounters, hub: Pausing[HubStatistics]
) -> Pausing[StreamStatistics]:
    """Compute the statistics of these streams, which are open, and of those that have ended.

    Those that end meanwhile count as open.
    """
    kinds = {kind: count for kind, count in counters.open.items() if count}
    ended, durations = dict(counters.ended), counters.durations
    events_sent, bytes_sent = counters.events_sent, counters.bytes_sent
    ages = HistogramCounter(DURATION_BOUNDS)
    has_clock = trio.lowlevel.in_trio_run()
    oldest = streams[0].duration if streams and has_clock else 0.0
    for start in range(0, len(streams), _STREAMS_AT_ONCE):
        for stream in streams[start : start + _STREAMS_AT_ONCE]:
            events, size = stream.sent()
            events_sent += events
            bytes_sent += size
            if has_clock:
                ages.add(stream.duration)
        yield
    return StreamStatistics(
        open_streams=len(streams),
        opened=len(streams) + sum(ended.values()),
        ended=ended,
        events_sent=events_sent,
        bytes_sent=bytes_sent,
        streams=kinds,
        ages=ages.snapshot(),
        oldest=oldest,
        durations=durations,
        hub=(yield from hub),
    )
