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
    PREFACE,
    Flag,
    FrameReader,
    FrameType,
    encode_block,
    encode_frame,
    encode_reset,
    encode_settings,
    encode_window_update,
)
from trio_sse._http2.header_block import encode_fields
from trio_sse._http2.limits import LIMITS
from trio_sse._http2.protocol import Http2Protocol
from trio_sse._transport.http2_stream import Http2StreamTransport
from trio_sse._transport.http2_writer import Http2Writer
from trio_sse._transport.pending_bytes import PendingBytes

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def sized(body: bytes, length: int | None = None) -> bytes:
    """Return a response with Content-Length."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


class Wire:
    """A transport that takes as many bytes as there is room for.

    Attributes:
        room: how many more it takes.
        sent: what it has taken, one item for each write.
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
        self._changed = trio.lowlevel.ParkingLot()

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        assert self.pending is None
        size = int(min(self.room, len(payload)))
        self.room -= size
        if size:
            self.sent.append(payload[:size])
        self.pending = payload[size:] or None
        return self.pending is None

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
        self.send_nowait(pending, 0, 0.0)
        await trio.lowlevel.checkpoint()


class Link:
    """A connection: the server's protocol and writer, and what the client has sent and received.

    Attributes:
        streams: the transports of the requests, by their numbers.
        bodies: what the client has received of each response.
        is_lost: the writer has given the connection up.
    """

    def __init__(self, nursery: trio.Nursery, *, write_timeout: float = math.inf) -> None:
        self.wire = Wire()
        wire: Any = self.wire
        self.streams: dict[int, Http2StreamTransport] = {}
        self.bodies: dict[int, bytes] = {}
        self.is_lost = False
        self._nursery = nursery
        self._is_scheduled = False
        self._reader, self._decoder = FrameReader(), hpack.Decoder()
        self._seen: list[str] = []
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
            await self.writer.flush_blocked(PendingBytes())
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
                self.streams[event.stream.id] = Http2StreamTransport(
                    event.stream,
                    self.writer,
                    is_head=event.head.method == "HEAD",
                    is_websocket=event.is_websocket,
                )
            elif isinstance(event, WindowOpened):
                self.writer.wake()

    def asks(self, stream_id: int, method: str = "GET", *, is_whole: bool = True) -> Http2StreamTransport:
        """Have the client send a request; return the server's transport for it."""
        names = {":method": method, ":scheme": "http", ":authority": "test", ":path": "/"}
        fields = encode_fields([(name.encode(), value.encode()) for name, value in names.items()])
        self.client_sends(encode_block(stream_id, fields, ends_stream=is_whole))
        return self.streams[stream_id]

    def uploads(self, stream_id: int, data: bytes, *, is_end: bool = False) -> None:
        self.client_sends(encode_frame(FrameType.DATA, Flag.END_STREAM if is_end else 0, stream_id, data))

    def resets(self, stream_id: int) -> None:
        self.client_sends(encode_reset(stream_id, ErrorCode.CANCEL))

    def opens_window(self, stream_id: int, size: int) -> None:
        self.client_sends(encode_window_update(stream_id, size))

    # What the client has received

    def flush(self) -> None:
        """Let the event loop's next round come."""
        if self._is_scheduled:
            self._is_scheduled = False
            self.writer.flush(trio.current_time())

    def received(self) -> list[str]:
        """Return what has come since the last call: `1: 200`, `1: 5 bytes`, `1: end`, `1: CANCEL`."""
        self.flush()
        sent, self.wire.sent = self.wire.sent, []
        self._reader.feed(b"".join(sent))
        while (frame := self._reader.take()) is not None:
            self._take(*frame)
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
        if flags & Flag.END_STREAM and type in (FrameType.HEADERS, FrameType.DATA):
            self._seen.append(f"{stream_id}: end")

    @property
    def is_clean(self) -> bool:
        """Whether nothing of any stream is left."""
        return not (self.writer.waiting or self.protocol.streams)
