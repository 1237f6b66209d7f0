"""An HTTP/2 connection without a server: a client's frames, and a socket that is scripted."""

from __future__ import annotations

import math
from typing import Any

import hpack
import trio

from trio_sse._http.request_head import LIMITS as HEAD_LIMITS
from trio_sse._http.request_head import RequestHead
from trio_sse._http2.error_code import ErrorCode
from trio_sse._http2.events import RequestReceived, WindowOpened
from trio_sse._http2.frames import (
    Flag,
    FrameReader,
    FrameType,
    encode_block,
    encode_frame,
    encode_ping,
    encode_reset,
    encode_settings,
    encode_window_update,
)
from trio_sse._http2.header_block import encode_fields
from trio_sse._http2.limits import LIMITS
from trio_sse._http2.preface import PREFACE
from trio_sse._http2.protocol import Http2Protocol
from trio_sse._transport.http2_response import ResponseKind
from trio_sse._transport.http2_stream import Http2StreamTransport
from trio_sse._transport.http2_writer import Http2Writer
from trio_sse._transport.pace import Progress
from trio_sse._transport.pending_bytes import PendingBytes

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def sized(body: bytes, length: int | None = None) -> bytes:
    """Return a response with Content-Length."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


class FrameLog:
    """What a client has received.

    Attributes:
        bodies: the DATA of each stream.
    """

    def __init__(self) -> None:
        self.bodies: dict[int, bytes] = {}
        self._reader, self._decoder = FrameReader(), hpack.Decoder()
        self._seen: list[str] = []

    def feed(self, received: bytes) -> None:
        self._reader.feed(received)
        while (frame := self._reader.take()) is not None:
            self._take(*frame)

    def take(self) -> list[str]:
        """Return what has come since the last call.

        `1: 200` is a head on stream 1, `1: 5 bytes` a DATA frame, `1: end` END_STREAM, `1: CANCEL`
        RST_STREAM, `1: window 5` WINDOW_UPDATE, `GOAWAY 7 NO_ERROR` the last stream and the code of GOAWAY,
        `PING ...` a PING, and `PONG ...` the answer to one.
        """
        seen, self._seen = self._seen, []
        return seen

    def _take(self, type: int, flags: int, stream_id: int, payload: bytes) -> None:
        if type == FrameType.HEADERS:
            fields = dict(self._decoder.decode(payload, raw=True))
            self._seen.append(f"{stream_id}: {fields[b':status'].decode()}")
        elif type == FrameType.DATA:
            self.bodies[stream_id] = self.bodies.get(stream_id, b"") + payload
            self._seen += [f"{stream_id}: {len(payload)} bytes"] if payload else []
        elif type == FrameType.RST_STREAM:
            self._seen.append(f"{stream_id}: {ErrorCode(int.from_bytes(payload)).name}")
        elif type == FrameType.WINDOW_UPDATE and stream_id:
            self._seen.append(f"{stream_id}: window {int.from_bytes(payload)}")
        elif type == FrameType.GOAWAY:
            code = ErrorCode(int.from_bytes(payload[4:8])).name
            self._seen.append(f"GOAWAY {int.from_bytes(payload[:4])} {code}")
        elif type == FrameType.PING:
            self._seen.append(f"{'PONG' if flags & Flag.ACK else 'PING'} {payload.decode('latin-1')}")
        if flags & Flag.END_STREAM and type in (FrameType.HEADERS, FrameType.DATA):
            self._seen.append(f"{stream_id}: end")


def ask(
    stream_id: int,
    path: str = "/",
    method: str = "GET",
    *lines: str,
    is_whole: bool = True,
    host: str = "test",
) -> bytes:
    """Return a request's HEADERS frame; `CONNECT` asks for a WebSocket."""
    pseudo = {":method": method, ":scheme": "http", ":authority": host, ":path": path}
    if method == "CONNECT":
        pseudo[":protocol"] = "websocket"
    fields = [
        *pseudo.items(),
        *((name, value) for name, _, value in (line.partition(": ") for line in lines)),
    ]
    block = encode_fields([(name.encode(), value.encode()) for name, value in fields])
    return encode_block(stream_id, block, ends_stream=is_whole)


def data(stream_id: int, payload: bytes, *, is_end: bool = False) -> bytes:
    """Return a DATA frame."""
    return encode_frame(FrameType.DATA, Flag.END_STREAM if is_end else 0, stream_id, payload)


def reset(stream_id: int) -> bytes:
    """Return a RST_STREAM frame."""
    return encode_reset(stream_id, ErrorCode.CANCEL)


class Wire:
    """A transport that takes as many bytes as there is room for.

    Attributes:
        room: how many more it takes.
        sent: what it has taken, one item for each write.
        taken: how much that is, and when it was.
    """

    is_direct = True
    tls_session = None
    speaker = "peer"
    peer = "peer:1"
    peer_host = "peer"
    is_secure = False
    endpoints = (("peer", 1), None)

    def __init__(self) -> None:
        self.room: float = math.inf
        self.sent: list[bytes] = []
        self.pending: bytes | None = None
        self.is_broken = False
        self.taken = Progress(0.0, 0)
        self._changed = trio.lowlevel.ParkingLot()

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        assert self.pending is None
        size = int(min(self.room, len(payload)))
        self.room -= size
        self.taken = Progress(now, self.taken.taken + size) if size else self.taken
        if size:
            self.sent.append(payload[:size])
        self.pending = payload[size:] or None
        return self.pending is None

    def progress(self) -> Progress:
        return self.taken

    def open(self, room: float = math.inf) -> None:
        """Take more."""
        self.room += room
        self._changed.unpark_all()

    def break_off(self) -> None:
        """Take nothing any more."""
        self.is_broken = True
        self._changed.unpark_all()

    async def flush_some(self) -> None:
        while not self.room and not self.is_broken:
            await self._changed.park()
        if self.is_broken:
            raise trio.BrokenResourceError
        pending, self.pending = self.pending, None
        assert pending is not None
        self.send_nowait(pending, 0, trio.current_time())
        await trio.lowlevel.checkpoint()


class Link:
    """A connection: the server's protocol and writer, and what the client has sent and received.

    Attributes:
        streams: the transports of the requests, by their numbers.
        is_lost: the writer has given the connection up.
    """

    def __init__(
        self, nursery: trio.Nursery, *, write_timeout: float = math.inf, counts: PendingBytes | None = None
    ) -> None:
        self.wire = Wire()
        wire: Any = self.wire
        self.streams: dict[int, Http2StreamTransport] = {}
        self.is_lost = False
        self._nursery = nursery
        self._counts = counts or PendingBytes()
        self._is_scheduled = False
        self._log = FrameLog()
        self.writer = Http2Writer(
            wire, self._schedule, self._start_flushing, self._start_resetting, write_timeout=write_timeout
        )
        self.protocol = self.writer.protocol = Http2Protocol(
            LIMITS,
            HEAD_LIMITS,
            allows_websocket=True,
            on_output=self.writer.schedule,
            on_closed=lambda: None,
            now=0.0,
        )
        self.client_sends(PREFACE, encode_settings({}))
        assert self.received() == []

    def _schedule(self, writer: Http2Writer) -> None:
        self._is_scheduled = True

    def _start_flushing(self) -> None:
        self._nursery.start_soon(self._flush_blocked)

    async def _flush_blocked(self) -> None:
        try:
            await self.writer.flush_blocked(self._counts)
        except trio.BrokenResourceError:
            self.is_lost = True
            self.protocol.lose_all()

    def _start_resetting(self) -> None:
        self._nursery.start_soon(self.writer.send_resets)

    # The client

    def client_sends(self, *frames: bytes) -> None:
        """Have the server receive frames."""
        for event in self.protocol.receive(b"".join(frames), trio.current_time()):
            if isinstance(event, RequestReceived):
                assert isinstance(event.head, RequestHead)
                kind = ResponseKind.of(event.head.method, is_websocket=event.is_websocket)
                self.streams[event.stream.id] = Http2StreamTransport(event.stream, self.writer, kind)
            elif isinstance(event, WindowOpened):
                self.writer.wake()

    def asks(self, stream_id: int, method: str = "GET", *, is_whole: bool = True) -> Http2StreamTransport:
        """Have the client send a request; return the server's transport for it."""
        self.client_sends(ask(stream_id, "/", method, is_whole=is_whole))
        return self.streams[stream_id]

    def uploads(self, stream_id: int, payload: bytes, *, is_end: bool = False) -> None:
        self.client_sends(data(stream_id, payload, is_end=is_end))

    def resets(self, stream_id: int) -> None:
        self.client_sends(reset(stream_id))

    def opens_window(self, stream_id: int, size: int) -> None:
        self.client_sends(encode_window_update(stream_id, size))

    # What the client has received

    def flush(self) -> None:
        """Let the event loop's next round come."""
        if self._is_scheduled:
            self._is_scheduled = False
            self.writer.flush(trio.current_time())

    def received(self) -> list[str]:
        """Return what has come since the last call; see `FrameLog.take`."""
        self.flush()
        sent, self.wire.sent = self.wire.sent, []
        self._log.feed(b"".join(sent))
        return self._log.take()

    @property
    def bodies(self) -> dict[int, bytes]:
        """What the client has received of each response."""
        return self._log.bodies

    @property
    def is_clean(self) -> bool:
        """Whether nothing of any stream is left."""
        return not (self.writer.waiting or self.protocol.streams)


class RawPeer:
    """A client that sends any frames to a server, and sees all that come."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.log = FrameLog()
        self.is_closed = False  # by the server
        self._stream = stream
        self._pings = 0

    async def __aenter__(self) -> RawPeer:
        await self.send(PREFACE, encode_settings({}), encode_window_update(0, 1 << 30))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await trio.aclose_forcefully(self._stream)

    async def send(self, *frames: bytes) -> None:
        """Send frames, in one packet."""
        await self._stream.send_all(b"".join(frames))

    async def opens_window(self, stream_id: int, size: int) -> None:
        await self.send(encode_window_update(stream_id, size))

    async def receive(self) -> list[str]:
        """Let the server do all it has to do now; return what has come; see `FrameLog.take`."""
        await trio.sleep(0.1)  # a reset waits for a moment
        self._pings += 1
        number = f"{self._pings:08}"
        await self.send(encode_ping(number.encode()))
        seen: list[str] = []
        while f"PONG {number}" not in seen and not self.is_closed:
            received = await self._stream.receive_some()
            self.is_closed = not received
            self.log.feed(bytes(received))
            seen += self.log.take()
        return [text for text in seen if not text.startswith("PONG")]

    async def receive_all(self) -> list[str]:
        """Wait until the server has closed the connection; return what has come."""
        while received := await self._stream.receive_some():
            self.log.feed(bytes(received))
        self.is_closed = True
        return self.log.take()
