"""Whose an app's WebSocket is: what the app says of it, before or after it has accepted."""

from __future__ import annotations

from typing import final

import trio

from .._asgi.scope_object import ScopeObject
from .._stream.extras import check_expiry
from .._stream.live_stream import LiveStream
from .._wire.identity import check_identity

#: Where a WebSocket's scope has this, in its `extensions`.
CONNECTION = "trio_sse.connection"


@final
class AppWebSocketConnection(ScopeObject):
    """Has the `identity` and `expires_at` of a WebSocket, as `trio_sse.Connection` has them of a stream."""

    def __init__(self) -> None:
        self._stream: LiveStream | None = None
        self._identity: str | None = None
        self._expires_at: float | None = None
        self._opened_at = trio.current_time()

    @property
    def identity(self) -> str | None:
        """Whose it is; see `Connection.identity`."""
        return self._identity

    @identity.setter
    def identity(self, identity: str | None) -> None:
        self._identity = None if identity is None else check_identity(identity)
        self._apply()

    @property
    def expires_at(self) -> float | None:
        """When the client's credentials expire; see `Connection.expires_at`."""
        return self._expires_at

    @expires_at.setter
    def expires_at(self, expires_at: float | None) -> None:
        self._expires_at = None if expires_at is None else check_expiry(expires_at)
        self._apply()

    def accept(self, stream: LiveStream) -> None:
        """Let all that is said count for this stream."""
        self._stream = stream
        self._apply()

    def _apply(self) -> None:
        stream = self._stream
        if stream is None:
            return
        stream.set_identity(self._identity)
        stream.set_expiry(self._expires_at)
        stream.end_if_revoked(self._opened_at)  # while the app has thought about it
