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
    """The body of one response, which the server frames.

    Args:
        survives: a `send` that is cancelled still sends its whole message; see `SurvivingSend`.
        is_disconnect: whether an error of `send` reports a disconnect; by default, each `OSError` does.
    """

    __slots__ = ("_disconnected", "_is_disconnect", "_is_released", "_send", "_survives")

    def __init__(
        self,
        send: Send,
        disconnected: Disconnected,
        peer: str,
        *,
        survives: bool,
        is_disconnect: Callable[[OSError], bool] = lambda error: True,
    ) -> None:
        super().__init__(peer)
        self._survives = survives
        self._is_disconnect = is_disconnect
        self._send = send
        self._disconnected = disconnected
        self._is_released = False

    async def _write(self, payload: bytes | memoryview) -> None:
        message = {"type": "http.response.body", "body": bytes(payload), "more_body": True}
        try:
            await self._send(message)
        except OSError as error:  # how ASGI servers report that the client has disconnected
            if not self._is_disconnect(error):
                raise
            raise trio.BrokenResourceError("the client has disconnected") from error
        if self._is_released:
            raise trio.BrokenResourceError("the response is over")

    async def flush_some(self) -> None:
        try:
            await super().flush_some()
        except trio.Cancelled:
            if self._survives and not self._is_released:
                self._is_broken = False
                self.pending = None
            raise

    async def _receive(self) -> bytes:
        await self._disconnected()
        return b""

    async def discard_some(self) -> bool:
        return bool(await self.receive_some())

    def unread_bytes(self) -> int:
        return 0

    async def linger(self) -> None:
        """Do nothing: the server closes the connection."""

    def release(self) -> None:
        """Write nothing more: the response is over."""
        self._is_broken = self._is_released = True

    async def _close(self, *, abort: bool) -> None:
        self.release()  # the server closes the connection
