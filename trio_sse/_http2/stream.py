"""What a connection knows of one HTTP/2 stream: its state, its windows, and what has arrived."""

from __future__ import annotations

from collections import deque
from typing import Protocol, final


class StreamObserver(Protocol):
    """Whoever serves a stream; called while frames are parsed, so it must not wait or raise."""

    def on_readable(self) -> None:
        """There is more to read: bytes of the body, its end, or the end of the stream."""

    def on_writable(self) -> None:
        """The stream's window has been opened."""

    def on_lost(self) -> None:
        """The peer has reset the stream, or disconnected."""


@final
class Http2Stream:
    """One stream of a connection.

    Attributes:
        id: its number.
        send_window: how many bytes of DATA the peer accepts now; negative after a change of its settings.
        observer: who serves it; `None` until somebody does.
        received: pieces of the request's body that nobody has taken.
        unread: their size in bytes.
        is_head_sent: the final head of the response has been sent.
        has_ended: we have sent END_STREAM.
        peer_has_ended: the peer has sent END_STREAM.
        is_lost: the peer has reset it, or disconnected; nothing can be sent.
        is_closed: it has left the connection's table.
    """

    __slots__ = (
        "_body_left",
        "_credit",
        "_receive_window",
        "has_ended",
        "id",
        "is_closed",
        "is_head_sent",
        "is_lost",
        "observer",
        "peer_has_ended",
        "received",
        "send_window",
        "unread",
    )

    def __init__(self, id: int, send_window: int, receive_window: int) -> None:
        self.id = id
        self.send_window = send_window
        self.observer: StreamObserver | None = None
        self.received: deque[bytes] | None = None  # made on first need: most requests have no body
        self.unread = 0
        self.is_head_sent = False
        self.has_ended = False
        self.peer_has_ended = False
        self.is_lost = False
        self.is_closed = False
        self._receive_window = receive_window  # how many bytes the peer may still send
        self._credit = 0  # bytes that were taken, and not announced to the peer
        self._body_left: int | None = None  # of what Content-Length announces

    def expect_body(self, length: int | None) -> None:
        """Set how many bytes of DATA the peer has announced; `None` if it has not."""
        self._body_left = length

    def count_received(self, size: int) -> bool:
        """Count the payload of a DATA frame, with its padding; return whether the window allows it."""
        self._receive_window -= size
        return self._receive_window >= 0

    def add_body(self, data: bytes) -> bool:
        """Keep bytes of the body; return whether they are within what the peer has announced."""
        if self._body_left is not None:
            self._body_left -= len(data)
            if self._body_left < 0:
                return False
        if data:
            if self.received is None:
                self.received = deque()
            self.received.append(data)
            self.unread += len(data)
        return True

    @property
    def is_body_whole(self) -> bool:
        """Whether no announced byte is missing."""
        return not self._body_left

    def take_body(self, most: int) -> bytes:
        """Take bytes of the body, up to `most`; empty if nothing is there."""
        received = self.received
        if not received:
            return b""
        data = received.popleft()
        if len(data) > most:
            received.appendleft(data[most:])
            data = data[:most]
        self.unread -= len(data)
        return data

    def take_credit(self, size: int, least: int) -> int:
        """Count bytes that were taken; return how many to announce to the peer now, if at least `least`."""
        self._credit += size
        if self._credit < least or self.peer_has_ended:
            return 0
        credit, self._credit = self._credit, 0
        self._receive_window += credit
        return credit
