"""One HTTP/2 connection of the load tool, which carries several streams."""

from __future__ import annotations

from http.client import responses
from typing import final

import trio

from ..._http2.error_code import ConnectionFault, ErrorCode
from ..._http2.frames import (
    SETTINGS_ACK,
    Flag,
    Frame,
    FrameReader,
    FrameType,
    Setting,
    encode_block,
    encode_ping,
    encode_reset,
    encode_settings,
    encode_window_update,
)
from ..._http2.header_decoder import HeaderDecoder
from ..._http2.limits import LIMITS
from ..._http2.payloads import data_of, fragment_of, goaway_of, ping_of, reset_code_of, settings_of
from ..._http2.preface import PREFACE
from .attempt import LoadAttempt
from .dialer import LoadDialer, failure_of
from .response import LoadError
from .totals import Totals

_RECEIVE_SIZE = 64 * 1024
_FIRST_WINDOW = 65_535  # of a connection, by the protocol
_STREAM_WINDOW = 1 << 20
_CONNECTION_WINDOW = 1 << 24
_NO_HTTP2 = "the server does not speak HTTP/2"
_CUT = "the server cut the stream"


@final
class _Exchange:
    """A request and its response."""

    __slots__ = ("attempt", "error", "over", "received")

    def __init__(self, attempt: LoadAttempt) -> None:
        self.attempt = attempt
        self.error: LoadError | None = None
        self.over = trio.Event()
        self.received = 0  # since the window was last opened

    def end(self, error: LoadError | None = None) -> None:
        if not self.over.is_set():
            self.error = error
            self.over.set()


@final
class Http2Connection:
    """Connects in its own task, and receives for all its streams until it ends.

    Windows are opened when half of them is used, so that few WINDOW_UPDATE frames are sent.

    Attributes:
        is_open: further streams may use it. It need not be connected yet.
    """

    def __init__(self, dialer: LoadDialer, totals: Totals) -> None:
        self.is_open = True
        self._dialer = dialer
        self._totals = totals
        self._connected: trio.abc.Stream | None = None
        self._output = bytearray(PREFACE)
        settings = {Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: _STREAM_WINDOW}
        self._output += encode_settings(settings)
        self._output += encode_window_update(0, _CONNECTION_WINDOW - _FIRST_WINDOW)
        self._is_sending = False
        self._frames = FrameReader()
        self._headers = HeaderDecoder()
        self._exchanges: dict[int, _Exchange] = {}
        self._next_id = 1
        self._most_streams: int | None = None
        self._has_settings = False
        self._received = 0  # since the connection's window was last opened
        self._fragments = b""  # of a header block that is not complete
        self._ends_stream = False  # with this block
        self._failure = _CUT

    async def follow(self, attempt: LoadAttempt) -> None:
        """Request a stream, and wait until it ends.

        Raises:
            LoadError: why it ended, unless the server ended it in order.
            trio.BrokenResourceError: the connection fails.
        """
        if self._most_streams is not None and len(self._exchanges) >= self._most_streams:
            text = f"the server allows {self._most_streams} streams on a connection"
            raise LoadError(text, is_final=True)
        stream_id, self._next_id = self._next_id, self._next_id + 2
        exchange = self._exchanges[stream_id] = _Exchange(attempt)
        block = self._dialer.target.block(attempt.stream.decoder.last_event_id)
        self._output += encode_block(stream_id, block, ends_stream=True)
        try:
            await self._send()
            await exchange.over.wait()
        finally:
            self._exchanges.pop(stream_id, None)
        if exchange.error is not None:
            raise exchange.error

    async def run(self, place: int) -> None:
        """Connect from the source address for this place, and receive until the connection ends."""
        try:
            failure = await self._receive_all(place)
        except LoadError as error:
            failure = error
        except ConnectionFault as fault:
            failure = LoadError(f"the server broke the protocol: {fault.text}")
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            failure = LoadError(failure_of(error))
        self.is_open = False
        for exchange in self._exchanges.values():
            exchange.end(LoadError(str(failure), is_final=failure.is_final))

    async def _receive_all(self, place: int) -> LoadError:
        """Return why the streams that are left have failed when the server closes its side."""
        _, self._connected = await self._dialer.dial(place)
        try:
            if isinstance(self._connected, trio.SSLStream) and not self._connected.selected_alpn_protocol():
                raise LoadError(_NO_HTTP2, is_final=True)
            await self._send()
            while data := await self._connected.receive_some(_RECEIVE_SIZE):
                self._receive(bytes(data))
                await self._send()
            return LoadError(self._failure)
        finally:
            await trio.aclose_forcefully(self._connected)

    async def _send(self) -> None:
        """Send what waits, unless it has yet to connect or another task is sending, which then does it."""
        if self._is_sending or self._connected is None:
            return
        self._is_sending = True
        try:
            while self._output:
                data, self._output = self._output, bytearray()
                await self._connected.send_all(data)
        finally:
            self._is_sending = False

    def _receive(self, data: bytes) -> None:
        if not self._has_settings and data.startswith(b"HTTP/1."):
            raise LoadError(_NO_HTTP2, is_final=True)
        self._frames.feed(data)
        payloads = 0
        while (frame := self._frames.take()) is not None:
            payloads += self._take(frame)
        self._totals.bytes += len(data) - payloads  # which `LoadAttempt` counts

    def _take(self, frame: Frame) -> int:
        """Act on a frame; return how many bytes of it were passed to its stream."""
        if not self._has_settings and frame.type != FrameType.SETTINGS:
            raise LoadError(_NO_HTTP2, is_final=True)
        match frame.type:
            case FrameType.DATA:
                return self._take_data(frame)
            case FrameType.HEADERS | FrameType.CONTINUATION:
                self._take_fragment(frame)
            case FrameType.RST_STREAM:
                exchange = self._exchange(frame.stream_id)
                if exchange is not None:
                    code = _name(reset_code_of(frame))
                    exchange.end(LoadError(f"the server reset the stream: {code}"))
            case FrameType.SETTINGS:
                self._take_settings(frame)
            case FrameType.PING if not frame.flags & Flag.ACK:
                self._output += encode_ping(ping_of(frame), is_ack=True)
            case FrameType.GOAWAY:
                self._take_goaway(frame)
            case FrameType.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "it pushes, although not allowed to")
        return 0

    def _take_settings(self, frame: Frame) -> None:
        self._has_settings = True
        if frame.flags & Flag.ACK:
            return
        for name, value in settings_of(frame):
            if name == Setting.MAX_CONCURRENT_STREAMS:
                self._most_streams = value
        self._output += SETTINGS_ACK

    def _take_goaway(self, frame: Frame) -> None:
        """Let accepted streams go on. Later ones need another connection, as do those that are refused."""
        self.is_open = False
        last, code = goaway_of(frame)
        if code != ErrorCode.NO_ERROR:
            self._failure = f"the server ended the connection: {_name(code)}"
        for stream_id, exchange in self._exchanges.items():
            if stream_id > last:
                exchange.end(LoadError("the server refused the stream: it ends the connection"))

    def _take_fragment(self, frame: Frame) -> None:
        """Add to a header block; act on it when it is complete."""
        if frame.type == FrameType.HEADERS:
            self._ends_stream = bool(frame.flags & Flag.END_STREAM)
        self._fragments += fragment_of(frame)
        if len(self._fragments) > LIMITS.header_block:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")
        if not frame.flags & Flag.END_HEADERS:
            return
        block, self._fragments = self._fragments, b""
        fields = dict(self._headers.decode(block))  # also those of streams that have ended
        exchange = self._exchange(frame.stream_id)
        if exchange is None:
            return
        try:
            if not exchange.attempt.stream.has_head:  # otherwise these are trailers
                _receive_head(exchange.attempt, fields)
        except LoadError as error:
            self._fail(frame.stream_id, exchange, error)
        if self._ends_stream:
            exchange.end()

    def _take_data(self, frame: Frame) -> int:
        size = len(frame.payload)
        self._received += size
        if self._received > _CONNECTION_WINDOW // 2:
            self._output += encode_window_update(0, self._received)
            self._received = 0
        data = data_of(frame)
        exchange = self._exchange(frame.stream_id)
        if exchange is None:
            return 0
        exchange.received += size
        if exchange.received > _STREAM_WINDOW // 2:
            self._output += encode_window_update(frame.stream_id, exchange.received)
            exchange.received = 0
        try:
            exchange.attempt.receive(data)
        except LoadError as error:
            self._fail(frame.stream_id, exchange, error)
        if frame.flags & Flag.END_STREAM:
            exchange.end()
        return len(data)

    def _exchange(self, stream_id: int) -> _Exchange | None:
        """Return the exchange of a stream, unless it has ended."""
        exchange = self._exchanges.get(stream_id)
        return None if exchange is None or exchange.over.is_set() else exchange

    def _fail(self, stream_id: int, exchange: _Exchange, error: LoadError) -> None:
        """End a stream that is of no use, and tell the server."""
        self._output += encode_reset(stream_id, ErrorCode.CANCEL)
        exchange.end(error)


def _receive_head(attempt: LoadAttempt, fields: dict[bytes, bytes]) -> None:
    status = fields.pop(b":status", b"")
    if not status.isdigit():
        raise LoadError("the response has no status", is_final=True)
    attempt.receive_head(int(status), responses.get(int(status), ""), fields)


def _name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"code {code}"
