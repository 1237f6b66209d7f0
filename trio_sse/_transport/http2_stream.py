"""One HTTP/2 stream as a `Transport`: who owns it, and what it reads.

`http2_response.py` has what it writes; both describe one object, of which a server has many.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Self, final

import trio

from .._http2.error_code import ErrorCode
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
from .http2_response import Http2Response, ResponseKind
from .http2_writer import Http2Writer

_OWNED, _MOVED, _CLOSED = HandleState

# So much of a request is read off after its response.
_MOST_LINGERED = 1024 * 1024


def _no_stream() -> Http2Stream:
    """Return what a handle has instead of a stream once it owns none."""
    stream = Http2Stream(0, 0)
    stream.is_lost = stream.is_closed = stream.has_ended = True
    return stream


_NO_STREAM = _no_stream()


@final
class Http2StreamTransport(Http2Response):
    """A stream of a connection, which the transport owns.

    Args:
        kind: what the request asks for.
    """

    __slots__ = ("_listener", "framing", "origin")

    def __init__(self, stream: Http2Stream, writer: Http2Writer, kind: ResponseKind) -> None:
        self.state = _OWNED
        self.framing = Framing.PLAIN
        self.pending = None
        self.written_at = 0.0
        self.bytes_sent = 0
        self.events_sent = 0
        self.origin: RequestOrigin | None = None
        self._stream = stream
        self._writer = writer
        self._kind = kind
        self._is_streaming = False
        self._left = None
        self._ends = False
        self._listener: DisconnectListener | None = None
        self._lot = None
        self._waiting = 0
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
        new = type(self)(self._stream, self._writer, self._kind)
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
                self._report_loss(listener)

    def watch_soon(self, listener: DisconnectListener) -> None:
        self.watch(listener)

    def unwatch(self) -> None:
        self._listener = None

    # What the protocol reports

    def on_readable(self) -> None:
        """There is more to read."""
        if self._lot is not None:
            self._lot.unpark_all()

    def on_lost(self) -> None:
        """The peer has reset the stream, or disconnected."""
        self._is_streaming = False
        if self._lot is not None:
            self._lot.unpark_all()
        if self._listener is not None:
            self._report_loss(self._listener)

    def _report_loss(self, listener: DisconnectListener) -> None:
        if self._writer.has_timed_out:
            listener.on_write_timeout()
        elif self._writer.is_cut:
            listener.on_pending_cut()
        else:
            listener.on_disconnect()

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
            raise self._writer.loss()
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
        self._writer.protocol.answered.pop(stream, None)
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
