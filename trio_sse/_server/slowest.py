"""The streams whose clients lag most."""

from __future__ import annotations

import heapq
import os
from typing import Any

from .._pausing import Pausing
from .._stream.listing import ConnectionInfo
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager

_STREAMS_AT_ONCE = 500
_MOST_TOPICS = 10
_LONGEST_TEXT = 200


def slowest_streams(manager: StreamManager, most: int) -> Pausing[list[dict[str, Any]]]:
    """Return what is known of the streams for which most waits; of those without, the oldest ones."""
    streams = [stream for serving in manager.serve_scopes for stream in serving.streams.values()]
    slowest: list[LiveStream] = []
    for start in range(0, len(streams), _STREAMS_AT_ONCE):
        chunk = [each for each in streams[start : start + _STREAMS_AT_ONCE] if isinstance(each, LiveStream)]
        slowest = heapq.nlargest(most, [*slowest, *chunk], key=_lag)
        yield
    return [stream_row(stream.info()) for stream in slowest if stream.end_reason is None]


def _lag(stream: LiveStream) -> int:
    pending = stream.transport.pending
    waiting = 0 if pending is None else max(1, len(pending))
    for feed in stream.forwarded:
        waiting += feed.queued_bytes
    return waiting


def stream_row(info: ConnectionInfo) -> dict[str, Any]:
    """Return what is shown of a stream."""
    return {
        "pid": os.getpid(),
        "id": info.id,
        "identity": None if info.identity is None else info.identity[:_LONGEST_TEXT],
        "host": info.host,
        "peer": info.peer,
        "path": info.path[:_LONGEST_TEXT],
        "route": info.route,
        "transport": info.transport,
        "age": round(info.age, 3),
        "topics": info.topics[:_MOST_TOPICS],
        "events": info.events_sent,
        "bytes": info.bytes_sent,
        "queued_events": info.queued_events,
        "waiting_bytes": info.queued_bytes + info.pending_bytes,
    }
