"""The kinds of connections, and how each ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import hpack

from trio_sse._http2.frames import SETTINGS_ACK, encode_block, encode_settings
from trio_sse._http2.preface import PREFACE

#: How a client leaves: with FIN or RST, in the middle of its request or of an event, after it was idle, when
#: the server's maximum duration is over, or when it is revoked.
ENDS = ("fin", "rst", "mid_head", "mid_event", "idle", "max_duration", "revoke")

_BY_CLIENT = ("fin", "rst", "mid_head", "mid_event", "idle")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of connection.

    Attributes:
        share: how many of a hundred connections are of it.
        tls: whether it begins with a TLS handshake.
        ends: how it may end.
    """

    share: int
    method: str = "GET"
    path: str = "/stream"
    fields: str = ""
    body: bytes = b""
    tls: bool = False
    is_http2: bool = False
    ends: Sequence[str] = ENDS

    def request(self, end: str) -> bytes:
        """Return the bytes of a request that ends that way."""
        path = f"{self.path}?revoke=1" if end == "revoke" else self.path
        if self.is_http2:
            return PREFACE + encode_settings({}) + SETTINGS_ACK + _headers(path)
        length = f"Content-Length: {len(self.body)}\r\n" if self.body else ""
        head = f"{self.method} {path} HTTP/1.1\r\nHost: test\r\n{self.fields}{length}\r\n"
        return head.encode() + self.body

    def has_ended(self, received: bytes) -> bool:
        """Return whether this, which begins with a frame or a head, ends what the client reads.

        On a slow machine, a stream's maximum duration may be over before it begins: that is refused.
        """
        if received.startswith(b"HTTP/1.1 503"):
            return True
        if self.is_http2:
            return _ends_stream(received)
        if self.fields.startswith("Connection: Upgrade"):
            return _closes_websocket(received)
        return received.endswith(b"0\r\n\r\n")


def _ends_stream(received: bytes) -> bool:
    """Return whether one of these frames ends a stream: RST_STREAM, or one with END_STREAM."""
    while len(received) >= 9:
        type, flags = received[3], received[4]
        if type == 3 or (type in (0, 1) and flags & 1):
            return True
        received = received[9 + int.from_bytes(received[:3]) :]
    return False


def _closes_websocket(received: bytes) -> bool:
    """Return whether one of these frames, which are short, is a close frame."""
    if received.startswith(b"HTTP/1.1"):
        received = received.partition(b"\r\n\r\n")[2]
    while len(received) >= 4:
        if received[0] == 0x88:
            return True
        size = received[1]
        received = received[2 + size :] if size < 126 else received[4 + int.from_bytes(received[2:4]) :]
    return False


def _headers(path: str) -> bytes:
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", path)]
    block = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])
    return encode_block(1, bytes(block), ends_stream=True)


_UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

KINDS: Mapping[str, Kind] = {
    "stream": Kind(28),
    "poll": Kind(12, fields="Accept: application/json\r\n", ends=_BY_CLIENT),
    "websocket": Kind(12, path="/socket", fields=_UPGRADE),
    "tls": Kind(10, tls=True),
    "http2": Kind(12, is_http2=True),
    "app": Kind(8, path="/parts", ends=_BY_CLIENT),
    "event_stream": Kind(8, path="/events"),
    "quart": Kind(4, path="/quart"),
    "upload": Kind(4, "POST", "/upload", body=bytes(64 * 1024), ends=_BY_CLIENT),
    "run": Kind(2, "POST", "/run", body=b"{}"),
}

#: How many of a hundred connections end each way. Those that wait take long.
END_SHARES: Mapping[str, int] = {
    "fin": 30,
    "rst": 24,
    "mid_head": 16,
    "mid_event": 16,
    "idle": 6,
    "max_duration": 4,
    "revoke": 4,
}
