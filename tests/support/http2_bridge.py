"""A client's connection of HTTP/2 behind a stream that speaks HTTP/1.1, as a proxy that translates.

So what tests send and expect in HTTP/1.1 is tested over HTTP/2. Each request becomes a stream. One that asks
for an upgrade to a WebSocket becomes an extended CONNECT (RFC 8441). A response without Content-Length is
chunked. A stream that is reset ends the connection without the end of its body.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.errors
import h2.events
import trio

_CONNECTION_FIELDS = ("connection", "keep-alive", "transfer-encoding", "upgrade", "sec-websocket-key", "host")

# The answer to the key of RFC 6455, 1.3, which HTTP/2 does not have.
_ACCEPTED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)


class Http2Bridge(trio.abc.Stream):
    """The client's side of a connection."""

    def __init__(self, stream: trio.abc.Stream, scheme: str = "http") -> None:
        self.transport_stream = stream
        self._scheme = scheme
        config = h2.config.H2Configuration(
            header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._unsent = bytearray()  # of requests, that are not translated yet
        self._received = bytearray()  # of responses, that nobody has taken
        self._partial = b""
        self._stream_id = 0
        self._left: int | None = 0  # of the request's body; `None` if it is a WebSocket's
        self._is_chunked_request = False
        self._is_chunked = False
        self._is_websocket = False
        self._is_head = False
        self._is_over = False
        self._writing = trio.Lock()
        self._is_reading = False  # a task of those that send and receive
        self._has_read = trio.lowlevel.ParkingLot()

    # Requests

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Translate requests and send them."""
        self._unsent += data
        while self._translate_some():
            await self._flush()
        while self._unsent and not self._is_over and (self._left is None or self._left > 0):
            await self._receive()  # until a window opens
            while self._translate_some():
                await self._flush()
        await self._flush()

    def _translate_some(self) -> bool:
        """Translate the next part of a request; return whether there was any."""
        if not self._unsent or self._is_over:
            return False
        if self._left == 0:
            return self._translate_head()
        return self._translate_body()

    def _translate_head(self) -> bool:
        head, separator, rest = bytes(self._unsent).partition(b"\r\n\r\n")
        if not separator:
            return False
        self._unsent[:] = rest
        request_line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = request_line.split(" ")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        known = dict(fields)
        self._is_head = method == "HEAD"
        self._is_websocket = known.get("upgrade", "").lower() == "websocket"
        self._is_chunked_request = "transfer-encoding" in known
        self._left = None if self._is_websocket else int(known.get("content-length", "0"))
        if self._is_chunked_request:
            self._left = -1
        pseudo = [
            (":method", "CONNECT" if self._is_websocket else method),
            (":scheme", self._scheme),
            (":path", target),
            (":authority", known.get("host", "")),
        ]
        if self._is_websocket:
            pseudo.append((":protocol", "websocket"))
        others = [(name, value) for name, value in fields if name not in _CONNECTION_FIELDS]
        self._stream_id = self._h2.get_next_available_stream_id()
        self._h2.send_headers(self._stream_id, pseudo + others, end_stream=self._left == 0)
        return True

    def _translate_body(self) -> bool:
        window = min(self._h2.local_flow_control_window(self._stream_id), self._h2.max_outbound_frame_size)
        if self._is_chunked_request:
            line, separator, rest = bytes(self._unsent).partition(b"\r\n")
            size = int(line.partition(b";")[0] or b"0", 16) if separator else 0
            if not separator or len(rest) < size + 2:
                return False
            assert size <= window
            self._unsent[:] = rest[size + 2 :]
            self._h2.send_data(self._stream_id, rest[:size], end_stream=not size)
            if not size:
                self._left = 0
            return True
        size = min(window, len(self._unsent), len(self._unsent) if self._left is None else self._left)
        if not size:
            return False
        data = bytes(self._unsent[:size])
        del self._unsent[:size]
        if self._left is not None:
            self._left -= size
        self._h2.send_data(self._stream_id, data, end_stream=self._left == 0)
        return True

    async def _flush(self) -> None:
        async with self._writing:
            if data := self._h2.data_to_send():
                await self.transport_stream.send_all(data)

    # Responses

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes of a response, as HTTP/1.1 has them."""
        while not (self._received or self._is_over):
            await self._receive()
        size = max_bytes or len(self._received)
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    async def _receive(self) -> None:
        if self._is_reading:
            await self._has_read.park()
            return
        self._is_reading = True
        try:
            data = bytes(await self.transport_stream.receive_some())
        finally:
            self._is_reading = False
            self._has_read.unpark_all()
        if not data:
            self._is_over = True
        for frame in self._frames_in(data):
            for event in self._h2.receive_data(frame):
                self._take(event)
        with contextlib.suppress(trio.BrokenResourceError):  # the server may have closed it
            await self._flush()

    def _frames_in(self, data: bytes) -> Iterator[bytes]:
        self._partial += data
        while len(self._partial) >= (size := 9 + int.from_bytes(self._partial[:3])):
            frame, self._partial = self._partial[:size], self._partial[size:]
            if frame[3] != 7:  # GOAWAY, after which h2 accepts nothing
                yield frame

    def _take(self, event: object) -> None:
        match event:
            case h2.events.InformationalResponseReceived() | h2.events.ResponseReceived():
                fields = [(str(name), str(value)) for name, value in event.headers or ()]
                self._take_head(fields, isinstance(event, h2.events.ResponseReceived))
            case h2.events.DataReceived():
                data = event.data
                self._received += b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                if self._is_chunked:
                    self._received += b"0\r\n\r\n"
                if self._is_websocket:
                    self._is_over = True
            case h2.events.StreamReset() if event.error_code != h2.errors.ErrorCodes.NO_ERROR:
                self._is_over = True

    def _take_head(self, fields: list[tuple[str, str]], is_final: bool) -> None:
        known = dict(fields)
        status = int(known[":status"])
        if self._is_websocket and status == 200:
            head = _ACCEPTED
        else:
            self._is_websocket = False
            head = f"HTTP/1.1 {status} Status\r\n"
            has_body = is_final and not self._is_head and status not in (204, 205, 304)
            self._is_chunked = has_body and "content-length" not in known
            if self._is_chunked:
                head += "Transfer-Encoding: chunked\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields if name != ":status")
        self._received += f"{head}\r\n".encode("latin-1")

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Send FIN."""
        assert isinstance(self.transport_stream, trio.abc.HalfCloseableStream)
        await self.transport_stream.send_eof()

    async def aclose(self) -> None:
        """Close the connection."""
        await self.transport_stream.aclose()
