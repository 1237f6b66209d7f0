"""A raw HTTP client for tests: it sees every byte, and whether a body was ended or cut."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType

import trio

from trio_sse import EventDecoder, ServerSentEvent


@dataclass
class Head:
    """A response's head."""

    status: int
    reason: str
    fields: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """Return the value of the only field of this name, or `None`."""
        values = [value for field, value in self.fields if field.lower() == name.lower()]
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None


class ResponseReader:
    """What reads the body of a response, as events; a subclass has `read`."""

    def __init__(self) -> None:
        self.response: Head | None = None  # the last one
        self.body = b""
        self.is_ended = False  # the body was ended properly
        self.is_cut = False  # the stream was reset, or the connection closed before that
        self.forget_events()

    def forget_events(self) -> None:
        """Begin anew, with another body."""
        self._decoder = EventDecoder()
        self._events: list[ServerSentEvent] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.is_ended or self.is_cut

    async def read(self) -> bytes:
        """Wait for more of the body; return it, empty when it was ended or cut."""
        raise NotImplementedError

    async def event(self) -> ServerSentEvent:
        """Wait for the next event."""
        while not self._events:
            data = await self.read()
            assert data, "the stream is over"
            self._events += self._decoder.feed(data)
        return self._events.pop(0)

    async def events(self, count: int) -> list[ServerSentEvent]:
        """Wait for this many events."""
        return [await self.event() for _ in range(count)]

    async def rest(self) -> list[ServerSentEvent]:
        """Wait for the stream's end; return the events up to it. See `is_ended` and `is_cut`."""
        while data := await self.read():
            self._events += self._decoder.feed(data)
        events, self._events = self._events, []
        return events

    @property
    def last_event_id(self) -> str:
        return self._decoder.last_event_id

    @property
    def retry(self) -> int | None:
        return self._decoder.retry


class Client(ResponseReader):
    """One HTTP/1.1 connection over any stream; `body` is that of its present response, un-chunked."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__()
        self.stream = stream
        self._buffer = b""

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await trio.aclose_forcefully(self.stream)

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        await self.stream.send_all(data)

    async def get(self, target: str, *lines: str, method: str = "GET") -> Head:
        """Send a request with further header lines, and read the response's head."""
        await self.send("\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *lines, "", ""]).encode())
        return await self.head()

    async def head(self) -> Head:
        """Read a response's head; what follows is a new body."""
        while b"\r\n\r\n" not in self._buffer:
            assert await self._receive(), f"closed within the head: {self._buffer!r}"
        raw, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = raw.decode("latin-1").split("\r\n")
        version, status, reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        self.body, self.is_ended = b"", False
        self.forget_events()
        fields = [(n, v.strip()) for n, _, v in (x.partition(":") for x in lines)]
        self.response = Head(int(status), reason, fields)
        return self.response

    async def sized_body(self, head: Head) -> bytes:
        """Read a body whose length the head gives."""
        length = int(head.get("Content-Length") or 0)
        while len(self._buffer) < length:
            assert await self._receive(), "closed within the body"
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    async def wait_head(self) -> Head:
        """Wait for the head of the response, unless it has been read."""
        return self.response or await self.head()

    async def read(self) -> bytes:
        """Wait for more of a chunked body; return it un-chunked, empty when it was ended or cut."""
        while not self.is_over:
            size, separator, rest = self._buffer.partition(b"\r\n")
            if separator and len(rest) >= int(size, 16) + 2:
                count = int(size, 16)
                assert rest[count : count + 2] == b"\r\n", f"a malformed chunk: {self._buffer[:80]!r}"
                data, self._buffer = rest[:count], rest[count + 2 :]
                if not count:
                    self.is_ended = True
                    return b""
                self.body += data
                return data
            if not await self._receive():
                self.is_cut = True
        return b""

    async def closed(self) -> bytes:
        """Wait until the server has closed the connection; return what came before."""
        while await self._receive():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    async def whole(self) -> bytes:
        """Wait for the whole body, sized or chunked."""
        assert self.response is not None
        if self.response.get("Content-Length") is not None:
            return await self.sized_body(self.response)
        while await self.read():
            pass
        return self.body

    async def leave(self) -> None:
        """Go away."""
        await self.stream.aclose()

    async def abort(self) -> None:
        """Close the connection by RST, if it has a socket."""
        stream = self.stream.transport_stream if isinstance(self.stream, trio.SSLStream) else self.stream
        if isinstance(stream, trio.SocketStream):
            await abort(stream)
        else:
            await trio.aclose_forcefully(stream)

    async def _receive(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return bool(data)


async def abort(stream: trio.SocketStream) -> None:
    """Close a socket by RST."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)
