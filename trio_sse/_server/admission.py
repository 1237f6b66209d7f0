"""How many streams may be open at once, in all and for each address."""

from __future__ import annotations

import random
from collections import Counter
from typing import final

from .._http.exceptions import HTTPException
from .._stream.scope import ServeScope
from .._transport.base import Transport


@final
class Admission:
    """Admits streams up to a server's bounds."""

    def __init__(self, *, max_connections: int, max_connections_per_host: int | None) -> None:
        self._max_connections = max_connections
        self._max_connections_per_host = max_connections_per_host
        self._open = 0
        self._open_of: Counter[str] = Counter()  # by the peer's address, while that is bounded

    @property
    def is_empty(self) -> bool:
        """Whether no stream is counted."""
        return not (self._open or self._open_of)

    def check(self, transport: Transport, serving: ServeScope) -> None:
        """Raise an `HTTPException` if there is no room for another stream."""
        most = self._max_connections_per_host
        if serving.is_draining:
            raise _refusal(503, "the server is shutting down")
        if self._open >= self._max_connections:
            raise _refusal(503, "the server has as many streams open as it may")
        if most is not None and self._open_of[transport.peer_host] >= most:
            raise _refusal(429, "your address has as many streams open as it may")

    def enter(self, transport: Transport) -> None:
        """Count a stream, until it leaves."""
        self._count(transport, 1)

    def leave(self, transport: Transport) -> None:
        """Count a stream no longer."""
        self._count(transport, -1)

    def _count(self, transport: Transport, change: int) -> None:
        self._open += change
        if self._max_connections_per_host is not None:
            self._open_of[transport.peer_host] += change
            if not self._open_of[transport.peer_host]:
                del self._open_of[transport.peer_host]


def _refusal(status: int, detail: str) -> HTTPException:
    # Jittered, so that those who are turned away together don't come back together.
    return HTTPException(status, detail, {"Retry-After": str(random.randint(1, 10))})
