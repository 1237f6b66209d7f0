"""What a connection knows of one HTTP/2 stream: its state, its windows, and what has arrived."""

from __future__ import annotations

from collections import deque
from typing import Protocol, final

from .._http.body_decoders import BYTES_PER_CHUNK, FREE_CHUNKS
from .error_code import ErrorCode, StreamFault

# Small pieces of a body that nobody has taken yet are joined: each object takes some 50 bytes more.
_JOINED_SIZE = 4 * 1024


class StreamObserver(Protocol):
    """What serves a stream; called while frames are parsed, so it must not wait or raise."""

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
        "_least",
        "_receive_window",
        "_spare",
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
        self._spare = 0  # bytes that DATA frames have had beyond the least, which is 0 for a WebSocket
        self._least = 0

    def expect_body(self, length: int | None) -> None:
        """Bound the body by the bytes of DATA that the peer has announced, `None` if it has not."""
        self._body_left = length
        self._spare, self._least = FREE_CHUNKS * BYTES_PER_CHUNK, BYTES_PER_CHUNK

    def count_received(self, size: int) -> bool:
        """Count the payload of a DATA frame, with its padding; return whether the window allows it."""
        self._receive_window -= size
        return self._receive_window >= 0

    def add_body(self, data: bytes, *, is_end: bool) -> None:
        """Keep bytes of the body; `is_end` says that they are the last ones.

        Raises:
            StreamFault: they are not what was announced, or too many frames have hardly any bytes. Nothing
                is kept then.
        """
        left = self._body_left
        if left is not None:
            left -= len(data)
            if left < 0 or (is_end and left):
                text = "the body is not as long as announced"
                raise StreamFault(self.id, ErrorCode.PROTOCOL_ERROR, text)
            self._body_left = left
        self._spare += len(data) - self._least
        if self._spare < 0:
            raise StreamFault(self.id, ErrorCode.ENHANCE_YOUR_CALM, "too many pieces of the body are small")
        if not data:
            return
        self.unread += len(data)
        if self.received is None:
            self.received = deque()
        elif self.received and len(self.received[-1]) + len(data) <= _JOINED_SIZE:
            data = self.received.pop() + data
        self.received.append(data)

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
