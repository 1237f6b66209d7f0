"""One HTTP/2 stream as a `Transport`.

The code above speaks HTTP/1.1 to it: the first bytes of a response are its head, which becomes a HEADERS
frame, and the rest is the body, which becomes DATA frames. A payload that many clients receive is not copied
before the connection's write.

END_STREAM says that a response is complete: `end_response`, or the last byte that its Content-Length
announces. Everything else that ends the stream is a cut, which the client learns by RST_STREAM.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Self, final

import trio

from .._http2.error_code import ErrorCode
from .._http2.frames import HEAD, HEAD_SIZE, MAX_FRAME_SIZE, Flag
from .._http2.response_head import translate_head
from .._http2.stream import Http2Stream
from .._wire.message import Framing
from .base import (
    RECEIVE_SIZE,
    DisconnectListener,
    Endpoint,
    HandleState,
    RequestOrigin,
    describe_endpoint,
    endpoint_host,
    not_free,
    not_owned,
    read_to_end,
)
from .http2_writer import FLUSH_SIZE, Http2Writer

_OWNED, _MOVED, _CLOSED = HandleState

_pack_head = HEAD.pack  # the type of DATA is 0

# After so many bytes, a task goes on, so that a fast client of a large event does not keep others waiting.
_MOST_AT_ONCE = 4 * FLUSH_SIZE

# So much of a request is read off after its response.
_MOST_LINGERED = 1024 * 1024

# Statuses of responses without a body, which then end with their heads.
_WITHOUT_BODY = (204, 205, 304)


def _no_stream() -> Http2Stream:
    """Return what a handle has instead of a stream once it owns none."""
    stream = Http2Stream(0, 0, 0)
    stream.is_lost = stream.is_closed = stream.has_ended = True
    return stream


_NO_STREAM = _no_stream()


@final
class Http2StreamTransport:
    """A stream of a connection, which the transport owns.

    Args:
        is_head: the request's method is HEAD, so that the response has no body.
        is_websocket: it is to become a WebSocket (RFC 8441).
    """

    __slots__ = (
        "_ends",
        "_is_head",
        "_is_streaming",
        "_is_websocket",
        "_left",
        "_listener",
        "_lot",
        "_stream",
        "_waiting",
        "_writer",
        "bytes_sent",
        "events_sent",
        "framing",
        "origin",
        "pending",
        "state",
        "written_at",
    )

    def __init__(
        self, stream: Http2Stream, writer: Http2Writer, *, is_head: bool, is_websocket: bool
    ) -> None:
        self.state = _OWNED
        self.framing = Framing.PLAIN
        self.pending: bytes | memoryview | None = None
        self.written_at = 0.0
        self.bytes_sent = 0
        self.events_sent = 0
        self.origin: RequestOrigin | None = None
        self._stream = stream
        self._writer = writer
        self._is_head = is_head
        self._is_websocket = is_websocket
        self._is_streaming = False  # the head has been sent, and nothing but its end limits the body
        self._left: int | None = None  # bytes of the body that are left, if the head has announced them
        self._ends = False  # the response is complete when nothing is pending
        self._listener: DisconnectListener | None = None
        self._lot: trio.lowlevel.ParkingLot | None = None
        self._waiting = 0  # tasks that wait in it
        stream.observer = self

    @property
    def is_direct(self) -> bool:
        return self._writer.transport.is_direct

    @property
    def is_watchable(self) -> bool:
        return True

    @property
    def connection_number(self) -> int:
        return self._writer.number

    @property
    def tls_session(self) -> ssl.SSLObject | None:
        return self._writer.transport.tls_session

    @property
    def speaker(self) -> str | None:
        return self._writer.transport.speaker

    @property
    def is_secure(self) -> bool:
        if self.origin is not None and self.origin.is_secure is not None:
            return self.origin.is_secure
        return self._writer.transport.is_secure

    @property
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        client, server = self._writer.transport.endpoints
        origin = self.origin
        return (client, server) if origin is None else (origin.client or client, origin.server or server)

    @property
    def peer_host(self) -> str:
        if self.origin is None or self.origin.client is None:
            return self._writer.transport.peer_host
        return endpoint_host(self.origin.client)

    @property
    def peer(self) -> str:
        if self.origin is None or self.origin.client is None:
            return self._writer.peer
        return describe_endpoint(self.origin.client)

    # The owner

    def hand_over(self) -> Self:
        if self._waiting or self.state is not _OWNED:
            raise not_free(self.state)
        new = type(self)(self._stream, self._writer, is_head=self._is_head, is_websocket=self._is_websocket)
        new.framing = self.framing
        new.pending = self.pending
        new.written_at = self.written_at
        new.bytes_sent = self.bytes_sent
        new.events_sent = self.events_sent
        new.origin = self.origin
        new._is_streaming = self._is_streaming
        new._left = self._left
        new._ends = self._ends
        self.state = _MOVED
        self._release()
        self.pending = None
        return new

    def _release(self) -> None:
        """Own nothing any more."""
        self._stream = _NO_STREAM
        self._is_streaming = False
        self._listener = None

    def watch(self, listener: DisconnectListener) -> None:
        if self.state is _OWNED:
            self._listener = listener
            if self._stream.is_lost:
                listener.on_disconnect()

    def watch_soon(self, listener: DisconnectListener) -> None:
        self.watch(listener)

    def unwatch(self) -> None:
        self._listener = None

    # What the protocol reports

    def on_readable(self) -> None:
        """There is more to read."""
        if self._lot is not None:
            self._lot.unpark_all()

    def on_writable(self) -> None:
        """More may be sent."""
        if self._lot is not None:
            self._lot.unpark_all()

    def on_lost(self) -> None:
        """The peer has reset the stream, or disconnected."""
        self._is_streaming = False
        if self._lot is not None:
            self._lot.unpark_all()
        if self._listener is None:
            return
        if self._writer.has_timed_out:
            self._listener.on_write_timeout()
        elif self._writer.is_cut:
            self._listener.on_pending_cut()
        else:
            self._listener.on_disconnect()

    async def _wait(self) -> None:
        """Wait until the protocol reports something."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        self._waiting += 1
        try:
            await self._lot.park()
        finally:
            self._waiting -= 1

    # Writing

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
        head = translate_head(payload[:size], is_websocket=self._is_websocket)
        stream, protocol = self._stream, self._writer.protocol
        if head.is_interim:
            protocol.send_head(stream, head.block, is_interim=True, is_end=False)
            return payload[size:]
        is_end = self._is_head or head.status in _WITHOUT_BODY or head.content_length == 0
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
                while not self._stream.is_closed and self.pending is not None and len(self.pending) == before:
                    await self._wait()
                    self.flush_nowait(trio.current_time())
            finally:
                del self._writer.waiting[self]
        if self.pending is not None and (self._stream.is_lost or self._stream.is_closed):
            raise trio.BrokenResourceError("the peer has reset the stream")

    def end_response(self) -> None:
        if self.pending is not None:
            self._ends = True
        elif self._stream.is_head_sent:
            self._ends = self._is_streaming = False
            self._writer.protocol.end(self._stream)

    # Reading

    def receive_nowait(self) -> bytes | None:
        stream = self._stream
        data = stream.take_body(RECEIVE_SIZE)
        if data:
            self._writer.protocol.consumed(stream, len(data))
            return data
        if self.state is not _OWNED:
            raise not_owned(self.state)
        if stream.is_lost:
            raise trio.BrokenResourceError("the peer has reset the stream")
        return b"" if stream.peer_has_ended else None

    async def receive_some(self) -> bytes:
        while (data := self.receive_nowait()) is None:
            await self._wait()
        return data

    async def receive_unless_interrupted(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return await self.receive_some()

    def interrupt(self) -> None:
        """Do nothing: a stream carries one request, so nobody waits for the next one."""

    async def discard_some(self) -> bool:
        while not (data := self.receive_nowait()):
            await self._wait()  # a request that has ended does not mean that the client leaves
        return bool(data)

    def unread_bytes(self) -> int:
        return self._stream.unread

    # The end

    async def linger(self) -> None:
        """Read off the rest of the request, if it is small, so that the stream need not be reset.

        HAProxy passes on a reset of a complete response to a client that is still sending, and the client
        may lose the response.
        """
        if self.state is not _OWNED:
            raise not_owned(self.state)
        with contextlib.suppress(trio.BrokenResourceError):
            await read_to_end(self._receive_few())

    def _receive_few(self) -> Callable[[], Awaitable[bytes]]:
        """Return what receives for as long as there are not too many bytes."""
        left = _MOST_LINGERED

        async def receive() -> bytes:
            nonlocal left
            left -= len(data := await self.receive_some())
            return data if left > 0 else b""

        return receive

    async def aclose(self, *, abort: bool = False) -> None:
        if self.state is not _OWNED:
            return
        self.state = _CLOSED
        stream = self._stream
        stream.observer = None
        if not stream.is_closed:
            self._writer.reset(stream, self._reset_code(stream), self.written_at)
        self._release()
        self.on_lost()
        if self._writer.waiting:
            self._writer.wake()  # it may have been this one's turn

    def _reset_code(self, stream: Http2Stream) -> ErrorCode:
        """Return why a stream is reset that is not closed yet."""
        if stream.has_ended:
            return ErrorCode.NO_ERROR  # all that is left is the rest of the request (RFC 9113, 8.1)
        return ErrorCode.INTERNAL_ERROR  # after CANCEL, Node's client reports that the response is complete


def _split(data: bytes | memoryview, size: int) -> tuple[bytes | memoryview, bytes | memoryview]:
    if size == len(data):
        return data, b""
    view = memoryview(data)
    return view[:size], view[size:]
