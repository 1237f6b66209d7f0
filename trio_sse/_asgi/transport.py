"""The response's body on another ASGI server, written through the `send` of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio

from .._transport.buffered import BufferedTransport
from .types import Send

#: Waits until the client has disconnected.
Disconnected = Callable[[], Awaitable[object]]


@final
class ASGITransport(BufferedTransport):
    """The body of one response, which the server frames."""

    __slots__ = ("_disconnected", "_send")

    def __init__(self, send: Send, disconnected: Disconnected, peer: str) -> None:
        super().__init__(peer)
        self._send = send
        self._disconnected = disconnected

    async def _write(self, payload: bytes | memoryview) -> None:
        try:
            await self._send({"type": "http.response.body", "body": bytes(payload), "more_body": True})
        except OSError as error:  # how ASGI servers report that the client has disconnected
            raise trio.BrokenResourceError("the client has disconnected") from error

    async def receive_some(self) -> bytes:
        await self._disconnected()
        return b""

    async def discard_some(self) -> bool:
        await self._disconnected()
        return False

    def unread_bytes(self) -> int:
        return 0

    async def linger(self) -> None:
        """Do nothing: the server closes the connection."""

    def release(self) -> None:
        """Write nothing more: the response is over."""
        self._is_broken = True

    async def aclose(self, *, abort: bool = False) -> None:
        """Release it; the server closes the connection."""
        self.release()
