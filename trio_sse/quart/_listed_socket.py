"""A WebSocket of Quart in the list of its app's streams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, final

import trio

from .._http.request import Request
from .._hub.hub import engine_of
from .._stream.end_reason import EndReason
from .._stream.extras import check_expiry
from .._stream.listing import ConnectionInfo
from .._stream.manager import StreamManager
from .._stream.stream_kind import StreamKind, shared_kind
from .._subscription.feed import Feed
from .._wire.identity import check_identity


class Socket(Protocol):
    """What is listed of a WebSocket.

    Attributes:
        scope: of everything that is done with it.
        end_reason: why it was ended; `None` while it is open.
        feed: what it forwards.
        events_sent, bytes_sent: what it has sent.
        written_at: when that was, in Trio's time.
    """

    scope: trio.CancelScope
    end_reason: EndReason | None
    feed: Feed | None
    events_sent: int
    bytes_sent: int
    written_at: float


@final
class ListedSocket:
    """The `ListedStream` of a WebSocket."""

    def __init__(
        self, socket: Socket, id: int, request: Request, *, route: str | None, is_secure: bool
    ) -> None:
        self.id = id
        self.kind: StreamKind = shared_kind(route, "websocket", request.http_version, is_secure)
        self.identity: str | None = None
        self.expires_at: float | None = None
        self._socket = socket
        self._request = request
        self._opened_at = trio.current_time()

    @property
    def end_reason(self) -> EndReason | None:
        return self._socket.end_reason

    @property
    def topics(self) -> tuple[str, ...]:
        feed = self._socket.feed
        return () if feed is None else feed.topics

    def info(self) -> ConnectionInfo:
        now, socket, kind = trio.current_time(), self._socket, self.kind
        return ConnectionInfo(
            id=self.id,
            identity=self.identity,
            expires_at=self.expires_at,
            host="quart",
            route=kind.route,
            transport=kind.transport,
            http_version=kind.http_version,
            is_secure=kind.is_secure,
            path=self._request.target.partition("?")[0],
            peer=self._request.peer,
            age=now - self._opened_at,
            idle=now - socket.written_at,
            topics=self.topics,
            events_sent=socket.events_sent,
            bytes_sent=socket.bytes_sent,
            queued_events=0 if socket.feed is None else socket.feed.queued_events,
            queued_bytes=0 if socket.feed is None else socket.feed.queued_bytes,
            pending_bytes=0,
        )

    def revoke(self, *, reconnect: bool) -> bool:
        if self._socket.end_reason is not None:
            return False
        self._socket.end_reason = EndReason.REVOKED if reconnect else EndReason.FINISHED
        self._socket.scope.cancel()
        return True

    @contextmanager
    def listed(
        self, manager: StreamManager, *, identity: str | None, expires_at: float | None
    ) -> Iterator[None]:
        """Be in the list while the context runs, and end at the time when the credentials expire.

        Raises:
            TypeError, ValueError: the identity or the time is not acceptable.
        """
        self.identity = None if identity is None else check_identity(identity)
        if expires_at is not None:
            self.expires_at = check_expiry(expires_at)
            self._socket.scope.deadline = trio.current_time() + self.expires_at - time.time()
        manager.sockets[self] = None
        if self.identity is not None:
            manager.identities.add(self.identity, self)
            if engine_of(manager.hub).revocations.is_revoked(self.identity, self._opened_at):
                self.revoke(reconnect=True)
        try:
            yield
        finally:
            del manager.sockets[self]
            if self.identity is not None:
                manager.identities.discard(self.identity, self)
            if self._socket.end_reason is None and trio.current_time() >= self._socket.scope.deadline:
                self._socket.end_reason = EndReason.EXPIRED
