"""A server's statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._histogram import Histogram
from .._hub.statistics import HubStatistics
from .._process.resources import ProcessStatistics
from .._stream.end_reason import EndReason
from .._stream.stream_kind import StreamKind


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """A snapshot of a server's statistics.

    Attributes:
        open_streams: streams that are open.
        opened: streams that were ever opened.
        ended: how many streams have ended, by reason.
        events_sent, bytes_sent: sums over all streams, open and ended; replayed events count, and bytes are
            counted before TLS.
        refused: requests that were answered with an error.
        turned_away: connections that were closed at once because too few file descriptors were left.
        max_connections: how many streams may be open, and endpoints and calls of the app at work.
        endpoints: endpoints that are at work.
        background_calls: calls of the app that go on after their responses.
        pending_bytes: bytes that wait for clients that read slowly; those that wait for several count once.
        pending_cut: responses and streams that were cut because too many bytes waited.
        is_draining: the server finishes its streams and answers no further request.
        streams: how many streams of each kind are open: by route, transport, HTTP version and TLS.
        ages: for how many seconds the open streams have been open; empty outside of Trio.
        oldest: for how many seconds the oldest one has been open.
        durations: for how many seconds the streams were open that have ended.
        refused_by_status: requests that were answered with an error, by its status.
        loop_turns: how many seconds each turn of the event loop took, while the server served. While one
            lasts, all streams wait.
        longest_loop_turn: the longest one of the last half minute, or a little more.
        process: what the process uses of the machine.
        hub: the hub's statistics.
    """

    open_streams: int
    opened: int
    ended: Mapping[EndReason, int]
    events_sent: int
    bytes_sent: int
    refused: int
    turned_away: int
    max_connections: int
    endpoints: int
    background_calls: int
    pending_bytes: int
    pending_cut: int
    is_draining: bool
    streams: Mapping[StreamKind, int]
    ages: Histogram
    oldest: float
    durations: Histogram
    refused_by_status: Mapping[int, int]
    loop_turns: Histogram
    longest_loop_turn: float
    process: ProcessStatistics
    hub: HubStatistics
