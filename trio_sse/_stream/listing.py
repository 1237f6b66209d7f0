"""Listing open streams, and ending some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, final

from .._pausing import Pausing
from .._validate import check_bounds
from .end_reason import EndReason
from .stream_kind import StreamKind

# As many streams are looked at in about half a millisecond.
_STREAMS_AT_ONCE = 200


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionInfo:
    """One open stream, at one moment.

    Attributes:
        id: its number in this server, as in the log.
        identity: see `Connection.identity`.
        expires_at: see `Connection.expires_at`.
        host: what its handler belongs to: `server` for a route of the server, `quart` for `QuartSSE`, `asgi`
            for an `event_stream`, `app` for a WebSocket that the app answers, `console` for the console.
        route, transport, http_version, is_secure: as in `StreamKind`.
        path: the path of its request, without the query.
        peer: the client's address.
        age: for how many seconds it has been open.
        idle: for how many seconds nothing has been written.
        topics: what it subscribes to, as far as the events are forwarded by `subscribe` or `forward`.
        events_sent, bytes_sent: what was sent, replayed events included.
        queued_events, queued_bytes: what waits in its subscriptions, since the client is slow.
        pending_bytes: what was begun to be written and waits for the client.
    """

    id: int
    identity: str | None
    expires_at: float | None
    host: str
    route: str | None
    transport: str
    http_version: str
    is_secure: bool
    path: str
    peer: str
    age: float
    idle: float
    topics: tuple[str, ...]
    events_sent: int
    bytes_sent: int
    queued_events: int
    queued_bytes: int
    pending_bytes: int


class ListedStream(Protocol):
    """What listing and ending streams needs of an open one."""

    @property
    def id(self) -> int: ...

    @property
    def identity(self) -> str | None: ...

    @property
    def kind(self) -> StreamKind: ...

    @property
    def topics(self) -> tuple[str, ...]:
        """What it subscribes to, as far as that is known."""

    @property
    def end_reason(self) -> EndReason | None:
        """Why it ended; `None` while it is open."""

    def info(self) -> ConnectionInfo:
        """Return what is known of it now."""

    def revoke(self, *, reconnect: bool) -> bool:
        """End it, and let nothing more be written but its end; return whether it was open."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFilter:
    """Which streams are meant; what is `None` does not matter."""

    id: int | None = None
    identity: str | None = None
    route: str | None = None
    topic: str | None = None

    def matches(self, stream: ListedStream) -> bool:
        """Whether a stream is open and meant."""
        return (
            stream.end_reason is None
            and (self.id is None or stream.id == self.id)
            and (self.identity is None or stream.identity == self.identity)
            and (self.route is None or stream.kind.route == self.route)
            and (self.topic is None or self.topic in stream.topics)
        )

    @property
    def is_empty(self) -> bool:
        """Whether all streams are meant."""
        return self == StreamFilter()


def list_connections(
    streams: Sequence[ListedStream], meant: StreamFilter, limit: int | None
) -> Pausing[list[ConnectionInfo]]:
    """Return those of the streams that are meant, at most `limit`."""
    if limit is not None:
        check_bounds(0, limit=limit)
    found: list[ConnectionInfo] = []
    for start in range(0, len(streams), _STREAMS_AT_ONCE):
        matching = filter(meant.matches, streams[start : start + _STREAMS_AT_ONCE])
        found += [stream.info() for stream in islice(matching, None if limit is None else limit - len(found))]
        if len(found) == limit:
            break
        yield
    return found


def close_streams(streams: Sequence[ListedStream], meant: StreamFilter, *, reconnect: bool) -> int:
    """End those of the streams that are meant; return how many those are.

    Raises:
        TypeError: all are meant, which would have all clients reconnect at the same moment.
    """
    if meant.is_empty:
        raise TypeError("say which connections to close, such as identity=...; use drain() to end all")
    return sum(stream.revoke(reconnect=reconnect) for stream in list(filter(meant.matches, streams)))
