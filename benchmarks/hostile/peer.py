"""One connection of an attacker: it sends and reads as slowly or as badly as it wants."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

#: Attackers come from many addresses, so that they don't run out of ports.
_ADDRESSES = 200

#: Asks for a WebSocket of large events.
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

_ESTABLISHED = 1  # the first byte of TCP_INFO
_CONNECT_SECONDS = 10.0


@final
class Peer:
    """A raw connection, without TLS unless `start_tls` is called."""

    def __init__(self, connected: trio.socket.SocketType, counts: Counter[str]) -> None:
        self.socket = connected
        self.stream = trio.SocketStream(connected)
        self.counts = counts

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await self.stream.send_all(data)

    async def drip(self, data: bytes, seconds: float = 1.0) -> None:
        """Send it byte by byte, with a pause after each."""
        for byte in data:
            await self.stream.send_all(bytes([byte]))
            await trio.sleep(seconds)

    async def read(self) -> None:
        """Read and forget everything until the server closes; count the answer's status."""
        is_first = True
        while received := await self.stream.receive_some():
            if is_first and received.startswith(b"HTTP/1.1 "):
                self.counts[received[9:12].decode("latin-1")] += 1
            is_first = False

    async def read_slowly(self, count: int = 1, seconds: float = 1.0) -> None:
        """Read so many bytes at a time, with a pause after each."""
        while await self.stream.receive_some(count):  # noqa: ASYNC110  # it reads
            await trio.sleep(seconds)

    async def hold(self) -> None:
        """Read nothing until the kernel knows that the connection is no more."""
        while self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED:  # noqa: ASYNC110
            await trio.sleep(0.5)

    async def start_tls(self, *protocols: str) -> trio.SSLStream[trio.SocketStream]:
        """Do the TLS handshake, and return the stream to use from now on."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols(list(protocols))
        secured = trio.SSLStream(self.stream, context, https_compatible=True)
        await secured.do_handshake()
        return secured

    def reset(self) -> None:
        """Close by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@asynccontextmanager
async def connected(
    host: str, port: int, counts: Counter[str], *, receive_buffer: int = 0
) -> AsyncIterator[Peer]:
    """Connect; close at the end of the context."""
    raw = trio.socket.socket()
    try:
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if host.startswith("127."):
            raw.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
            await raw.bind((f"127.0.1.{random.randint(1, _ADDRESSES)}", 0))
        with trio.fail_after(_CONNECT_SECONDS):
            await raw.connect((host, port))
        counts["connections"] += 1
        yield Peer(raw, counts)
    finally:
        raw.close()
