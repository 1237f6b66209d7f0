"""A raw HTTP/2 client for tests, on the `h2` library: several streams on one connection."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import h2.config
import h2.connection
import h2.events
import trio

from .client import Head, ResponseReader, abort

_GOAWAY = 7


class Http2Stream(ResponseReader):
    """One response; `body` is what has come of it and was not read."""

    def __init__(self, connection: Http2Connection, number: int) -> None:
        super().__init__()
        self.number = number
        self.is_held = False  # the stream's window is not opened again for what has come
        self._held_bytes = 0
        self.connection = connection

    async def wait_head(self) -> Head:
        """Wait for the response's head."""
        while self.response is None:
            assert not self.is_cut, "cut before the head"
            await self.connection.changed.park()
        return self.response

    async def read(self) -> bytes:
        """Wait for more of the body; return it, empty when it was ended or cut."""
        while not (self.body or self.is_over):
            await self.connection.changed.park()
        data, self.body = self.body, b""
        return data

    async def whole(self) -> bytes:
        """Wait for the whole body."""
        body = b""
        while data := await self.read():
            body += data
        return body

    async def release(self) -> None:
        """Take what comes again, after `is_held`."""
        self.is_held = False
        held, self._held_bytes = self._held_bytes, 0
        await self.connection.open_window(self.number, held)

    def took(self, count: int) -> bool:
        """Take note of this many bytes; return whether the stream's window is to be opened for as many."""
        self._held_bytes += count if self.is_held else 0
        return not self.is_held

    async def leave(self) -> None:
        """Reset the stream, as browsers do when a page closes its `EventSource`."""
        await self.connection.reset(self.number)


class Http2Connection:
    """One connection, read by its own task, which takes everything as it comes."""

    def __init__(self, stream: trio.abc.Stream, scheme: str) -> None:
        self.changed = trio.lowlevel.ParkingLot()
        self.streams: dict[int, Http2Stream] = {}
        self.reading = trio.CancelScope()
        self.goaways: list[tuple[int, int]] = []  # that have come: the last stream, and the code
        self._partial = b""
        self._stream = stream
        self._scheme = scheme
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._lock = trio.Lock()

    @classmethod
    async def open(
        cls, stream: trio.abc.Stream, context: ssl.SSLContext | None, nursery: trio.Nursery
    ) -> Http2Connection:
        """Shake hands, if there is a context, and begin to read."""
        if context is None:
            connection = cls(stream, "http")
        else:
            context.set_alpn_protocols(["h2"])
            secured = trio.SSLStream(stream, context, server_hostname="localhost")
            await secured.do_handshake()
            assert secured.selected_alpn_protocol() == "h2"
            connection = cls(secured, "https")
        connection._h2.initiate_connection()
        await connection._flush()
        nursery.start_soon(connection._read)
        return connection

    async def __aenter__(self) -> Http2Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.reading.cancel()
        await trio.aclose_forcefully(self._stream)

    async def request(
        self,
        method: str,
        path: str,
        *lines: str,
        body: bytes = b"",
        held: bool = False,
        is_whole: bool = True,
    ) -> Http2Stream:
        """Ask for a path, with further header lines; `held` is as `Http2Stream.is_held`.

        If the request is not whole, send its body by `send_body`.
        """
        number = self._h2.get_next_available_stream_id()
        fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
        head = [
            (":method", method),
            (":path", path),
            (":scheme", self._scheme),
            (":authority", "localhost"),
            *((name.lower(), value) for name, value in fields),
        ]
        opened = self.streams[number] = Http2Stream(self, number)
        opened.is_held = held
        self._h2.send_headers(number, head, end_stream=is_whole and not body)
        if body:
            self._h2.send_data(number, body, end_stream=True)
        await self._flush()
        return opened

    async def get(self, path: str, *lines: str, method: str = "GET") -> Head:
        """Ask for a path; give the response's head."""
        return await (await self.request(method, path, *lines)).wait_head()

    async def send_body(self, number: int, data: bytes, *, is_last: bool = False) -> None:
        """Send a piece of a request's body, unless its stream is over."""
        if not self.streams[number].is_over:
            self._h2.send_data(number, data, end_stream=is_last)
            await self._flush()

    async def open_window(self, number: int, count: int) -> None:
        """Let the server send this many more bytes on a stream."""
        if count and not self.streams[number].is_over:
            self._h2.increment_flow_control_window(count, number)
            await self._flush()

    async def abort(self) -> None:
        """Close the connection by RST."""
        stream = self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        assert isinstance(stream, trio.SocketStream)
        await abort(stream)
        self.reading.cancel()

    async def reset(self, number: int) -> None:
        """Reset a stream, unless it is over."""
        if not self.streams[number].is_over:
            self._h2.reset_stream(number, error_code=8)
            await self._flush()

    async def _flush(self) -> None:
        async with self._lock:
            if data := self._h2.data_to_send():
                await self._stream.send_all(data)

    async def _read(self) -> None:
        with self.reading:
            try:
                while data := await self._stream.receive_some():
                    for frame in self._frames_in(bytes(data)):
                        for event in self._h2.receive_data(frame):
                            self._take(event)
                    self.changed.unpark_all()
                    await self._flush()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        for stream in self.streams.values():
            stream.is_cut |= not stream.is_ended
        self.changed.unpark_all()

    def _frames_in(self, data: bytes) -> Iterator[bytes]:
        """Return the frames that are complete, but not GOAWAY: after it, h2 would accept no others."""
        self._partial += data
        while len(self._partial) >= (size := 9 + int.from_bytes(self._partial[:3])):
            frame, self._partial = self._partial[:size], self._partial[size:]
            if frame[3] == _GOAWAY:
                self.goaways.append((int.from_bytes(frame[9:13]), int.from_bytes(frame[13:17])))
            else:
                yield frame

    def _take(self, event: object) -> None:
        match event:
            case h2.events.ResponseReceived():
                fields = [(str(name), str(value)) for name, value in event.headers]
                head = Head(int(dict(fields)[":status"]), "", fields[1:])
                self.streams[event.stream_id].response = head
            case h2.events.DataReceived():
                stream, count = self.streams[event.stream_id], event.flow_controlled_length
                stream.body += event.data
                if stream.took(count):
                    self._h2.acknowledge_received_data(count, event.stream_id)
                elif count:
                    self._h2.increment_flow_control_window(count)  # the connection's, for its other streams
            case h2.events.StreamEnded():
                self.streams[event.stream_id].is_ended = True
            case h2.events.StreamReset():  # after the end, all that it says is that no more is to be sent
                stream = self.streams[event.stream_id]
                stream.is_cut = not stream.is_ended


class RawHttp2:
    """HTTP/2 without TLS, frame by frame, for what the other client would not do."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()

    def ask(self, path: str, method: str = "GET", *, end_stream: bool = True) -> int:
        """Prepare a request; return its stream's number."""
        number = self.h2.get_next_available_stream_id()
        fields = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "test")]
        self.h2.send_headers(number, fields, end_stream=end_stream)
        return number

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    async def wait(self, kind: type[Any], number: int | None = None) -> Any:
        """Wait for an event of h2, of this stream."""
        while data := await self.stream.receive_some():
            for event in self.h2.receive_data(bytes(data)):
                if isinstance(event, kind) and number in (None, getattr(event, "stream_id", None)):
                    return event
            await self.flush()
        raise AssertionError("the connection was closed")
