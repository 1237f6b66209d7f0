"""The write side of one HTTP/2 stream.

The code above speaks HTTP/1.1 to it: the first bytes of a response are its head, which becomes a HEADERS
frame, and the rest is the body, which becomes DATA frames. A payload that many clients receive is not copied
before the connection's write.

END_STREAM says that a response is complete: `end_response`, or the last byte that its Content-Length
announces. Everything else that ends the stream is a cut, which the client learns by RST_STREAM.
"""

from __future__ import annotations

import enum

import trio

from .._http2.frames import HEAD, HEAD_SIZE, MAX_FRAME_SIZE, Flag
from .._http2.response_head import translate_head
from .._http2.stream import Http2Stream
from .base import AppendableTransport, HandleState, not_owned
from .http2_writer import FLUSH_SIZE, Http2Writer
from .pace import Progress

_OWNED = HandleState.OWNED

_pack_head = HEAD.pack  # the type of DATA is 0

# After so many bytes, a task goes on, so that a fast client of a large event does not keep others waiting.
_MOST_AT_ONCE = 4 * FLUSH_SIZE

# Statuses of responses without a body, which then end with their heads.
_BODILESS = (204, 205, 304)


class ResponseKind(enum.Enum):
    """What a request asks for, as far as it decides what the response is made of."""

    ORDINARY = enum.auto()
    WITHOUT_BODY = enum.auto()  # its method is HEAD
    WEBSOCKET = enum.auto()  # it becomes one (RFC 8441)

    @classmethod
    def of(cls, method: str, *, is_websocket: bool) -> ResponseKind:
        """Return the kind of a request with this method."""
        if is_websocket:
            return cls.WEBSOCKET
        return cls.WITHOUT_BODY if method == "HEAD" else cls.ORDINARY


_, _WITHOUT_BODY, _WEBSOCKET = ResponseKind


class Http2Response(AppendableTransport):
    """The part of a `Http2StreamTransport` that writes; for speed, that sets the attributes of both."""

    __slots__ = (
        "_ends",
        "_is_streaming",
        "_kind",
        "_left",
        "_lot",
        "_stream",
        "_waiting",
        "_writer",
        "bytes_sent",
        "events_sent",
        "pending",
        "state",
        "written_at",
    )

    state: HandleState
    pending: bytes | memoryview | None
    written_at: float
    bytes_sent: int
    events_sent: int
    _stream: Http2Stream
    _writer: Http2Writer
    _kind: ResponseKind
    _is_streaming: bool  # the head has been sent, and nothing but its end limits the body
    _left: int | None  # bytes of the body that are left, if the head has announced them
    _ends: bool  # the response is complete when nothing is pending
    _lot: trio.lowlevel.ParkingLot | None  # where tasks wait until the protocol reports something
    _waiting: int  # how many of them there are

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        # As hot as that of `SocketTransport`: every delivery to a client that keeps up ends here.
        size = len(payload)
        self.events_sent += events
        self.bytes_sent += size
        stream, writer = self._stream, self._writer
        protocol = writer.protocol
        if not (
            self._is_streaming
            and size <= stream.send_window
            and size <= protocol.window
            and size <= MAX_FRAME_SIZE
            and not writer.is_blocked
        ):
            return self._send_slowly(payload, now)
        stream.send_window -= size
        protocol.window -= size
        protocol.output += (_pack_head(size << 8, 0, stream.id), payload)
        protocol.output_size += size + HEAD_SIZE
        self.written_at = now
        if not writer.is_scheduled:
            writer.schedule()
        elif protocol.output_size >= FLUSH_SIZE:
            writer.flush(now)
        return True

    begin_send = send_nowait  # the connection's transport encrypts what several streams have written

    def _send_slowly(self, payload: bytes, now: float) -> bool:
        """Send a payload that is or follows a head, that does not fit into one frame, or has to wait."""
        stream = self._stream
        self.pending = payload
        if stream.is_lost or stream.is_closed:
            return False
        while not stream.is_head_sent:
            if not payload:
                self.pending = None
                self.written_at = now
                return True
            payload = self.pending = self._send_head(payload)
        return self._send_some(now)

    def _send_head(self, payload: bytes) -> bytes:
        """Send the head that a payload begins with; return the rest."""
        size = payload.index(b"\r\n\r\n") + 4
        head = translate_head(payload[:size], is_websocket=self._kind is _WEBSOCKET)
        stream, protocol = self._stream, self._writer.protocol
        if head.is_interim:
            protocol.send_head(stream, head.block, is_interim=True, is_end=False)
            return payload[size:]
        is_end = self._kind is _WITHOUT_BODY or head.status in _BODILESS or head.content_length == 0
        self._left = None if is_end else head.content_length
        self._is_streaming = not is_end and self._left is None
        protocol.send_head(stream, head.block, is_interim=False, is_end=is_end)
        return b"" if is_end else payload[size:]

    def _send_some(self, now: float) -> bool:
        """Send what is pending, as far as it can be sent now; return whether nothing is left."""
        stream, writer = self._stream, self._writer
        protocol = writer.protocol
        pending, sent = self.pending, 0
        assert pending is not None
        while pending and not stream.is_closed:
            if protocol.output_size >= FLUSH_SIZE:
                writer.flush(now)
            size = min(len(pending), stream.send_window, protocol.window, MAX_FRAME_SIZE)
            if size <= 0 or writer.is_blocked or sent >= _MOST_AT_ONCE:
                self.pending = pending
                return False
            piece, pending = _split(pending, size)
            stream.send_window -= size
            protocol.window -= size
            sent += size
            is_end = False
            if self._left is not None:
                self._left -= size
                is_end = not self._left
            flags = Flag.END_STREAM if is_end else 0
            protocol.add_output(_pack_head(size << 8, flags, stream.id), piece)
            self.written_at = now
            if is_end:
                self._ends = False
                protocol.note_end(stream)
                pending = b""
        self.pending = pending or None
        if self._ends and self.pending is None:
            self.end_response()
        return self.pending is None

    def progress(self) -> Progress:
        taken = self.bytes_sent - len(self.pending or b"")
        connection, sharers = self._writer.transport.progress(), 0
        at = self.written_at
        if self._stream.send_window > 0:  # then it is the connection that the stream waits for
            at, sharers = max(at, connection.at), max(1, len(self._writer.waiting))
        return Progress(at, taken, connection.taken, sharers)

    @property
    def wanted(self) -> int:
        """How many bytes it could send now, if the connection's window were open."""
        return min(len(self.pending or b""), self._stream.send_window)

    def append_pending(self, payload: bytes, events: int) -> None:
        """Append `payload` to what is pending."""
        assert self.pending is not None
        self.events_sent += events
        self.bytes_sent += len(payload)
        self.pending = b"".join((self.pending, payload))

    def flush_nowait(self, now: float) -> None:
        if self.pending is not None and not self._stream.is_lost:
            self._send_some(now)

    async def flush_some(self) -> None:
        if self.state is not _OWNED:
            raise not_owned(self.state)
        if self.pending is None:
            return
        before = len(self.pending)
        if not self._stream.is_lost:
            self._send_some(trio.current_time())
        if self.pending is None or len(self.pending) < before:
            await trio.lowlevel.checkpoint()
            return
        if not self._stream.is_lost:
            self._writer.waiting[self] = None
            try:
                while self._is_left(before) and not self._stream.is_closed:
                    await self._wait()
                    if self._is_left(before):  # its turn may have come in `Http2Writer.wake`
                        self.flush_nowait(trio.current_time())
            finally:
                del self._writer.waiting[self]
        if self.pending is not None and (self._stream.is_lost or self._stream.is_closed):
            raise self._writer.loss()

    def _is_left(self, size: int) -> bool:
        """Return whether all is still pending of what was."""
        return self.pending is not None and len(self.pending) == size

    def end_response(self) -> None:
        if self.pending is not None:
            self._ends = True
        elif self._stream.is_head_sent:
            self._ends = self._is_streaming = False
            self._writer.protocol.end(self._stream)

    def on_writable(self) -> None:
        """More may be sent."""
        if self._lot is not None:
            self._lot.unpark_all()

    async def _wait(self) -> None:
        """Wait until the protocol reports something."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        self._waiting += 1
        try:
            await self._lot.park()
        finally:
            self._waiting -= 1


def _split(data: bytes | memoryview, size: int) -> tuple[bytes | memoryview, bytes | memoryview]:
    if size == len(data):
        return data, b""
    view = memoryview(data)
    return view[:size], view[size:]
