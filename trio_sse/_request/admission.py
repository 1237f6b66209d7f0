"""The bounds on open streams, and on endpoints and app calls at work: in all, and for each client address.

An app's call counts in all while it works on its response. A stream in that response takes its place, and
then counts for its address, too, as a call does that goes on after its response.
"""

from __future__ import annotations

from collections import Counter
from typing import final

from .._http.exceptions import TemporaryRefusal
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .options import AdmissionOptions


@final
class Admission:
    """Counts a server's open streams and what is at work, and refuses those above its bounds.

    Attributes:
        endpoints: endpoints at work.
        background_calls: calls of the app that go on after their responses.
        max_connections: how many of all these, and of streams, there may be.
    """

    def __init__(self, options: AdmissionOptions) -> None:
        self.max_connections = options.max_connections
        self._max_connections_per_host = options.max_connections_per_host
        self.endpoints = 0
        self.background_calls = 0
        self._open = 0
        self._open_of: Counter[str] = Counter()  # by the client's address, if there is a bound

    @property
    def is_full(self) -> bool:
        """Whether the next stream or request is refused, whatever its client."""
        return self._open >= self.max_connections

    @property
    def is_empty(self) -> bool:
        """Whether no stream is open."""
        return not (self._open or self._open_of)

    def check(self, transport: Transport, serving: ServeScope, *, has_place: bool = False) -> None:
        """Raise an `HTTPException` if the server has no room for another stream, or drains.

        Args:
            has_place: it takes the place of a call that counts already.
        """
        if serving.is_draining:
            raise TemporaryRefusal(503, "the server is shutting down")
        self.check_room(transport, has_place=has_place)

    def check_room(self, transport: Transport, *, has_place: bool = False) -> None:
        """Raise an `HTTPException` if the server has no room for another stream or request."""
        most = self._max_connections_per_host
        if self._open - has_place >= self.max_connections:
            raise _no_room()
        if most is not None and self._open_of[transport.peer_host] >= most:
            raise TemporaryRefusal(429, "your address has reached its limit of open streams")

    def enter(self, transport: Transport) -> None:
        """Count a stream that opens, or an endpoint that is called."""
        self._count(transport, 1)

    def leave(self, transport: Transport) -> None:
        """Stop counting one that has ended."""
        self._count(transport, -1)

    def begin_call(self) -> None:
        """Count a call of the app; raise an `HTTPException` if the server has no room for it."""
        if self.is_full:
            raise _no_room()
        self._open += 1

    def enter_address(self, transport: Transport) -> None:
        """Count a poll for its client's address, too, whose call counts already."""
        self._count_address(transport, 1)

    def leave_address(self, transport: Transport) -> None:
        """Stop counting one that has ended."""
        self._count_address(transport, -1)

    def end_call(self) -> None:
        """Stop counting one that has returned, or has given its place away."""
        self._open -= 1

    def enter_background(self, transport: Transport) -> None:
        """Count a call of the app that goes on after its response."""
        self.background_calls += 1
        self._count(transport, 1)

    def leave_background(self, transport: Transport) -> None:
        """Stop counting one that has returned."""
        self.background_calls -= 1
        self._count(transport, -1)

    def _count(self, transport: Transport, change: int) -> None:
        self._open += change
        self._count_address(transport, change)

    def _count_address(self, transport: Transport, change: int) -> None:
        if self._max_connections_per_host is not None:
            self._open_of[transport.peer_host] += change
            if not self._open_of[transport.peer_host]:
                del self._open_of[transport.peer_host]


def _no_room() -> TemporaryRefusal:
    return TemporaryRefusal(503, "the server has reached its limit of open streams and requests")
