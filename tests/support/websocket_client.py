"""A raw WebSocket client for tests: it sends any frame, right or wrong, and sees every frame that comes."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from trio_sse.websocket import WebSocketConnection

from .client import Client, Head
from .serving import InMemory

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # that of RFC 6455, 1.3
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)

_MASK = b"\x12\x34\x56\x78"


class Frame(NamedTuple):
    """One frame as it came."""

    opcode: int
    payload: bytes
    is_final: bool = True
    reserved: int = 0
    is_masked: bool = False


def encode(
    opcode: int,
    payload: bytes = b"",
    *,
    is_final: bool = True,
    reserved: int = 0,
    is_masked: bool = True,
    length_form: int | None = None,
) -> bytes:
    """Return a frame's bytes, as a client sends them; `length_form` is 7, 126 or 127, to force one."""
    size = len(payload)
    form = length_form or (7 if size < 126 else 126 if size < 1 << 16 else 127)
    mask_bit = 0x80 if is_masked else 0
    head = bytes([(0x80 if is_final else 0) | reserved << 4 | opcode])
    head += bytes([mask_bit | (size if form == 7 else form)])
    head += {7: b"", 126: struct.pack("!H", size & 0xFFFF), 127: struct.pack("!Q", size)}[form]
    if not is_masked:
        return head + payload
    mask = (_MASK * (size // 4 + 1))[:size]
    return head + _MASK + (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


def encode_close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """Return a close frame's bytes."""
    return encode(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class WebSocket:
    """One client's WebSocket over any stream."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __aenter__(self) -> WebSocket:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await trio.aclose_forcefully(self.client.stream)

    async def open(self, path: str, *lines: str) -> Head:
        """Send the handshake, and read what it is answered with."""
        return await self.client.get(path, *HANDSHAKE, *lines)

    async def send(self, opcode: int, payload: bytes = b"", *, is_final: bool = True) -> None:
        """Send a frame."""
        await self.client.send(encode(opcode, payload, is_final=is_final))

    async def send_json(self, **frame: object) -> None:
        """Send a JSON object as a text message."""
        await self.send(TEXT, json.dumps(frame).encode())

    async def frame(self) -> Frame | None:
        """Wait for a frame; `None` if the connection was closed instead."""
        head = await self._take(2)
        if head is None:
            return None
        size = head[1] & 0x7F
        if size >= 126:
            extended = await self._take(2 if size == 126 else 8)
            assert extended is not None
            size = int.from_bytes(extended, "big")
        payload = await self._take(size)
        assert payload is not None
        return Frame(head[0] & 0xF, payload, bool(head[0] & 0x80), head[0] >> 4 & 7, bool(head[1] & 0x80))

    async def message(self) -> str | bytes:
        """Wait for a message; pings do not count."""
        frame = await self.frame()
        while frame is not None and frame.opcode == PING:
            frame = await self.frame()
        assert frame is not None, "closed"
        assert frame.opcode in (TEXT, BINARY), frame
        assert frame == Frame(frame.opcode, frame.payload), "a frame must be whole, plain and unmasked"
        return frame.payload.decode() if frame.opcode == TEXT else frame.payload

    async def json(self) -> dict[str, object]:
        """Wait for a message of JSON; cursors do not count."""
        found: dict[str, object] = json.loads(await self.message())
        while found.get("type") == "cursor":
            found = json.loads(await self.message())
        return found

    async def close_code(self) -> tuple[int, str] | None:
        """Wait for the close frame, and give its code and reason; `None` if there was none.

        What else comes is skipped.
        """
        while (frame := await self.frame()) is not None:
            if frame.opcode == CLOSE:
                return struct.unpack("!H", frame.payload[:2])[0], frame.payload[2:].decode()
        return None

    async def is_closed(self) -> bool:
        """Wait until the server has closed; whether nothing more came before."""
        return await self.client.closed() == b""

    async def _take(self, count: int) -> bytes | None:
        while len(self.client._buffer) < count:
            if not await self.client._receive():
                return None
        data, self.client._buffer = self.client._buffer[:count], self.client._buffer[count:]
        return data


async def echo(websocket: WebSocketConnection) -> None:
    async for message in websocket:
        if isinstance(message, str):
            await websocket.send_text(message)
        else:
            await websocket.send_bytes(message)


@asynccontextmanager
async def opened(memory: InMemory, path: str, *lines: str) -> AsyncIterator[WebSocket]:
    """Open a WebSocket in memory."""
    async with WebSocket(memory.connect()) as websocket:
        head = await websocket.open(path, *lines)
        assert head.status == 101, head
        yield websocket
