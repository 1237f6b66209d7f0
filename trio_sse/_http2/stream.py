"""What a connection knows of one HTTP/2 stream: its state, its window, and the request's body."""

from __future__ import annotations

from typing import Protocol, final

from .request_body import RequestBody


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
        body: the request's body; `None` if its head has ended the request.
        observer: who serves it; `None` until somebody does.
        is_head_sent: the final head of the response has been sent.
        has_ended: we have sent END_STREAM.
        peer_has_ended: the peer has sent END_STREAM.
        is_lost: the peer has reset it, or disconnected; nothing can be sent.
        is_closed: it has left the connection's table.
    """

    __slots__ = (
        "body",
        "has_ended",
        "id",
        "is_closed",
        "is_head_sent",
        "is_lost",
        "observer",
        "peer_has_ended",
        "send_window",
    )

    def __init__(self, id: int, send_window: int, body: RequestBody | None = None) -> None:
        self.id = id
        self.send_window = send_window
        self.body = body
        self.observer: StreamObserver | None = None
        self.is_head_sent = False
        self.has_ended = False
        self.peer_has_ended = body is None
        self.is_lost = False
        self.is_closed = False

    @property
    def unread(self) -> int:
        """How many bytes of the body have arrived that nobody has taken."""
        return 0 if self.body is None else self.body.unread

    def take_body(self, most: int) -> bytes:
        """Take bytes of the body, up to `most`; empty if nothing is there."""
        return b"" if self.body is None else self.body.take(most)
