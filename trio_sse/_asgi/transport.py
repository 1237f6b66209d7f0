"""What a connection writes to on a server that is not ours: the `send` of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio

from .._transport.socket import Endpoint
from .._wire.message import Framing
from .types import Send

#: Waits until the client has gone.
Disconnected = Callable[[], Awaitable[object]]


@final
class ASGITransport:
    """The body of one response, which the server frames; see `Transport`.

    It can't be written to without waiting, so what is sent is pending at first.
    """

    __slots__ = (
        "_disconnected",
        "_is_broken",
        "_peer",
        "_send",
        "bytes_sent",
        "events_sent",
        "framing",
        "pending",
        "written_at",
    )

    def __init__(self, send: Send, disconnected: Disconnected, peer: str) -> None:
        self.framing = Framing.PLAIN
        self.pending: bytes | memoryview | None = None
        self.written_at = 0.0
        self.bytes_sent = 0
        self.events_sent = 0
        self._send = send
        self._disconnected = disconnected
        self._peer = peer
        self._is_broken = False

    @property
    def is_direct(self) -> bool:
        return False

    @property
    def is_secure(self) -> bool:
        return False

    @property
    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        return None, None

    @property
    def peer_host(self) -> str:
        return self._peer

    @property
    def peer(self) -> str:
        return self._peer

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        self.events_sent += events
        self.bytes_sent += len(payload)
        self.pending = payload
        return False

    def flush_nowait(self, now: float) -> None:
        """Do nothing: there is no sending without waiting."""

    async def flush_some(self) -> None:
        if self.pending is None:
            return
        if self._is_broken:
            raise trio.BrokenResourceError("the response is over, or an earlier write was cut off")
        self._is_broken = True  # unless it goes well: how much a cancelled write has sent can't be known
        try:
            await self._send({"type": "http.response.body", "body": bytes(self.pending), "more_body": True})
        except OSError as error:  # how ASGI servers say that the client has gone
            raise trio.BrokenResourceError("the client has gone") from error
        self._is_broken = False
        self.pending = None
        self.written_at = trio.current_time()

    def receive_nowait(self) -> bytes | None:
        return None

    async def receive_some(self) -> bytes:
        await self._disconnected()
        return b""

    async def discard_some(self) -> bool:
        await self._disconnected()
        return False

    def unread_bytes(self) -> int:
        return 0

    async def linger(self) -> None:
        """Do nothing: it is the server's to end the connection."""

    def release(self) -> None:
        """Write nothing more: the response is over."""
        self._is_broken = True

    async def aclose(self, *, abort: bool = False) -> None:
        """Release it; the connection is the server's to close."""
        self.release()
