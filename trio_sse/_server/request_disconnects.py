"""Noticing that the client leaves while an endpoint or an app works on the answer to its request.

On a socket the server's `DisconnectWatcher` does this, without reading. On other transports a task reads,
once the request's body has been read: what arrives is the client's next request, which stays in the buffer,
up to a bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, final

import trio

from .._stream.disconnects import MAX_UNREAD_BYTES
from .._transport.base import Transport

T = TypeVar("T")


@final
class RequestDisconnectWatcher:
    """Watches the client of one request during `run`, or until `stop`.

    Args:
        buffer: takes what the client sends meanwhile.
        on_disconnect: is called when the client has disconnected.

    Attributes:
        is_disconnected: whether it has.
    """

    __slots__ = (
        "_body_is_read",
        "_buffer",
        "_is_stopped",
        "_on_disconnect",
        "_reading",
        "_stopped",
        "_transport",
        "is_disconnected",
    )

    def __init__(self, transport: Transport, buffer: bytearray, on_disconnect: Callable[[], None]) -> None:
        self.is_disconnected = False
        self._transport = transport
        self._buffer = buffer
        self._on_disconnect = on_disconnect
        self._body_is_read = trio.Event()
        self._reading: trio.CancelScope | None = None
        self._stopped: trio.Event | None = None  # set when the reading task has stopped
        self._is_stopped = False

    def on_body_read(self) -> None:
        """Record that what the client sends from now on is not the request's body."""
        self._body_is_read.set()

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work`, which must raise nothing but what cancels it, and watch meanwhile."""
        if self._transport.is_watchable:
            self._transport.watch(self)
            try:
                return await work()
            finally:
                self._transport.unwatch()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            result = await work()
            nursery.cancel_scope.cancel()
        return result

    async def stop(self) -> None:
        """Stop watching. When this returns, no task reads from the client."""
        self._is_stopped = True
        self._transport.unwatch()
        if self._reading is not None and self._stopped is not None:
            self._reading.cancel()
            await self._stopped.wait()

    async def _read(self) -> None:
        await self._body_is_read.wait()
        if self._is_stopped:
            return
        self._stopped = trio.Event()
        try:
            with trio.CancelScope() as self._reading:
                try:
                    while len(self._buffer) < MAX_UNREAD_BYTES:
                        data = await self._transport.receive_some()
                        if not data:
                            break
                        self._buffer += data
                    else:
                        return
                except trio.BrokenResourceError:
                    pass
                self.on_disconnect()
        finally:
            self._reading = None
            self._stopped.set()

    def on_disconnect(self) -> None:
        """Record that the client has disconnected."""
        self.is_disconnected = True
        self._on_disconnect()

    def on_excess_input(self) -> None:
        """Do nothing: what follows the request stays unread in the socket, which bounds it."""
