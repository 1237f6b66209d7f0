"""The response's body on another ASGI server, written through the `send` of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio

from .._groups import split_failure
from .._transport.buffered import BufferedTransport
from .types import Message, Send

#: Waits until the client has disconnected.
Disconnected = Callable[[], Awaitable[object]]


@final
class ASGITransport(BufferedTransport):
    """The body of one response, which the server frames."""

    __slots__ = ("_disconnected", "_nursery", "_send")

    def __init__(
        self, send: Send, disconnected: Disconnected, peer: str, nursery: trio.Nursery | None = None
    ) -> None:
        """Write through `send`, in tasks of a nursery that outlives the app's call, if there is one.

        Hypercorn shields its writes from cancellation. In its own task, such a write does not keep the
        app's call from ending. Then hypercorn closes an HTTP/1.1 connection, and that ends the write.
        """
        super().__init__(peer)
        self._send = send
        self._disconnected = disconnected
        self._nursery = nursery

    async def _write(self, payload: bytes | memoryview) -> None:
        message = {"type": "http.response.body", "body": bytes(payload), "more_body": True}
        try:
            if self._nursery is None:
                await self._send(message)
            else:
                await _Sending(self._send, message).run_in(self._nursery)
        except OSError as error:  # how ASGI servers report that the client has disconnected
            raise trio.BrokenResourceError("the client has disconnected") from error

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
        self._is_broken = True

    async def _close(self, *, abort: bool) -> None:
        self.release()  # the server closes the connection


@final
class _Sending:
    """One call of `send` in its own task."""

    def __init__(self, send: Send, message: Message) -> None:
        self._send = send
        self._message = message
        self._has_ended = trio.Event()
        self._error: BaseException | None = None

    async def run_in(self, nursery: trio.Nursery) -> None:
        """Run it, and raise what it raises. If this is cancelled, it runs on."""
        nursery.start_soon(self._run, name="trio_sse.send")
        await self._has_ended.wait()
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        try:
            await self._send(self._message)
        except BaseException as failure:
            passing, self._error = split_failure(failure)
            if passing is not None:
                raise passing from None
        finally:
            self._has_ended.set()
