"""Clients that read as little as a test says, and can be cut off at every byte.

They parse what they read by themselves, and not by the code that is tested.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

import trio

from ..client import Client
from ..websocket_client import HANDSHAKE, TEXT, encode
from .record import Record

#: Returns how many events were published.
Published = Callable[[], int]


class DeliveryClient(Protocol):
    """One client, over all its connections. `open` and `read` raise `Refused`."""

    record: Record

    async def open(self, stream: trio.abc.Stream) -> None:
        """Connect, and resume from what was received."""

    async def read(self, size: int) -> bool:
        """Read this many bytes at most; return whether anything came before the connection's end."""

    async def close(self) -> None:
        """Cut the connection. What was not read is lost."""


class Refused(Exception):
    """The server drains."""


def check_status(head: bytes, expected: int) -> None:
    """Raise `Refused` if a server drains; any other status but the expected one is an error."""
    if head.startswith(b"HTTP/1.1 503"):
        raise Refused
    assert head.startswith(b"HTTP/1.1 %d" % expected), head


class StreamClient:
    """Reads an event stream in chunks (RFC 9112, 7.1)."""

    def __init__(self, path: str, record: Record, published: Published) -> None:
        self.record = record
        self._path = path
        self._published = published
        self._stream: trio.abc.Stream | None = None
        self._raw = b""
        self._body = b""
        self._has_head = False

    async def open(self, stream: trio.abc.Stream) -> None:
        self._stream, self._raw, self._body, self._has_head = stream, b"", b"", False
        resume = f"Last-Event-ID: {self.record.last_event_id}\r\n" if self.record.last_event_id else ""
        if not resume:
            self.record.since = None if not self.record.received else self.record.since
        await stream.send_all(f"GET {self._path} HTTP/1.1\r\nHost: test\r\n{resume}\r\n".encode())

    async def read(self, size: int) -> bool:
        assert self._stream is not None
        try:
            data = await self._stream.receive_some(size)
        except trio.BrokenResourceError:
            return False
        self._raw += data
        self._parse()
        return bool(data)

    def _parse(self) -> None:
        if not self._has_head:
            head, separator, rest = self._raw.partition(b"\r\n\r\n")
            if not separator:
                return
            check_status(head, 200)
            self._has_head, self._raw = True, rest
        while True:
            size, separator, rest = self._raw.partition(b"\r\n")
            if not separator or len(rest) < int(size, 16) + 2:
                break
            count = int(size, 16)
            self._body, self._raw = self._body + rest[:count], rest[count + 2 :]
        *blocks, self._body = self._body.split(b"\n\n")
        for block in blocks:
            self._take(block.decode())

    def _take(self, block: str) -> None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        self.record.take(fields.get("event", ""), fields.get("data", ""), fields.get("id"), self._published())

    async def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await trio.aclose_forcefully(stream)


class PollClient:
    """Polls: reading is to ask once."""

    def __init__(self, path: str, record: Record, published: Published) -> None:
        self.record = record
        self._path = path
        self._published = published
        self._client: Client | None = None

    async def open(self, stream: trio.abc.Stream) -> None:
        self._client = Client(stream)

    async def read(self, size: int) -> bool:
        assert self._client is not None
        cursor = f"&last_event_id={self.record.last_event_id}" if self.record.last_event_id else ""
        before = self._published()
        try:
            head = await self._client.get(f"{self._path}?wait=0{cursor}", "Accept: application/json")
        except trio.BrokenResourceError:
            return False
        if size < 10:  # cut off in the middle of the answer
            return False
        check_status(b"HTTP/1.1 %d" % head.status, 200)
        answer = json.loads(await self._client.sized_body(head))
        if self.record.since is None and not self.record.received:
            self.record.since = before
        for event in answer["events"]:
            self.record.take(event.get("event", ""), event["data"], event.get("id"), before)
        self.record.last_event_id = answer["last_event_id"] or self.record.last_event_id
        return True

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await trio.aclose_forcefully(client.stream)


class WebSocketClient:
    """Subscribes over a WebSocket, with the subprotocol `trio-sse.v1`."""

    def __init__(self, path: str, record: Record, published: Published) -> None:
        self.record = record
        self._path = path
        self._published = published
        self._stream: trio.abc.Stream | None = None
        self._raw = b""
        self._has_head = False

    async def open(self, stream: trio.abc.Stream) -> None:
        self._stream, self._raw, self._has_head = stream, b"", False
        head = [
            f"GET {self._path} HTTP/1.1",
            "Host: test",
            *HANDSHAKE,
            "Sec-WebSocket-Protocol: trio-sse.v1",
            "",
            "",
        ]
        await stream.send_all("\r\n".join(head).encode())
        while b"\r\n\r\n" not in self._raw:
            data = await stream.receive_some(1)  # the first frame must stay unread
            assert data, self._raw
            self._raw += data
        check_status(self._raw, 101)
        self._raw = b""
        resume = {"last_event_id": self.record.last_event_id} if self.record.last_event_id else {}
        subscribe = {"type": "subscribe", "topics": list(self.record.topics), **resume}
        await stream.send_all(encode(TEXT, json.dumps(subscribe).encode()))

    async def read(self, size: int) -> bool:
        assert self._stream is not None
        try:
            data = await self._stream.receive_some(size)
        except trio.BrokenResourceError:
            return False
        self._raw += data
        while (frame := self._take_frame()) is not None:
            opcode, payload = frame
            if opcode == TEXT:
                self._take(json.loads(payload))
        return bool(data)

    def _take_frame(self) -> tuple[int, bytes] | None:
        raw = self._raw
        if len(raw) < 2:
            return None
        size, start = raw[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(raw) < start:
                return None
            size = int.from_bytes(raw[2:start], "big")
        if len(raw) < start + size:
            return None
        self._raw = raw[start + size :]
        return raw[0] & 0xF, raw[start : start + size]

    def _take(self, message: dict[str, str]) -> None:
        kind = message.get("type")
        assert kind != "error", message
        event_id = message.get("id") or message.get("last_event_id")
        data = message["data"] if kind is None else ""
        self.record.take(message.get("event", ""), data, event_id, self._published())

    async def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await trio.aclose_forcefully(stream)
