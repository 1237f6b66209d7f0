"""Noticing that the client leaves while an endpoint or an app works on the answer to its request.

On a socket the server's `DisconnectWatcher` does this, without reading. On other transports a task reads
ahead, and is the only one that reads while it runs: the request's body is received from that task. What
follows the body is the client's next request, which stays in the buffer. There is a bound on what waits.
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
        buffer: takes what the client has sent and nobody has received, once it is not watched any more.
        on_disconnect: is called when the client has disconnected.

    Attributes:
        is_disconnected: whether it has.
    """

    __slots__ = ("_buffer", "_on_disconnect", "_reader", "_transport", "is_disconnected")

    def __init__(self, transport: Transport, buffer: bytearray, on_disconnect: Callable[[], None]) -> None:
        self.is_disconnected = False
        self._transport = transport
        self._buffer = buffer
        self._on_disconnect = on_disconnect
        self._reader: _AheadReader | None = None

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work`, which must raise nothing but what cancels it, and watch meanwhile."""
        if self._transport.is_watchable:
            self._transport.watch_soon(self)
            try:
                return await work()
            finally:
                self._transport.unwatch()
        self._reader = _AheadReader(self._transport, self.on_disconnect)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reader.run)
            with trio.CancelScope():  # it ends those that the work has left open: the nursery could not
                result = await work()
            await self.stop()
        return result

    async def receive_some(self) -> bytes:
        """Wait for bytes of the request's body; it raises what `Transport.receive_some` raises."""
        if self._reader is None:
            return await self._transport.receive_some()
        return await self._reader.receive_some()

    async def stop(self) -> None:
        """Stop watching. When this returns, no task reads from the client to watch it."""
        self._transport.unwatch()
        reader = self._reader
        if reader is not None:
            await reader.stop()
            if self._reader is not None:  # no other task has waited for it, too
                self._reader = None
                self._buffer += reader.received

    def on_disconnect(self) -> None:
        """Record that the client has disconnected."""
        self.is_disconnected = True
        self._on_disconnect()

    def on_write_timeout(self) -> None:
        """As `on_disconnect`."""
        self.on_disconnect()

    def on_pending_cut(self) -> None:
        """As `on_disconnect`."""
        self.on_disconnect()

    def on_excess_input(self) -> None:
        """Do nothing: what follows the request stays unread in the socket, which bounds it."""


@final
class _AheadReader:
    """Reads from a transport in its own task.

    Attributes:
        received: what has arrived and nobody has received.
    """

    def __init__(self, transport: Transport, on_disconnect: Callable[[], None]) -> None:
        self.received = bytearray()
        self._transport = transport
        self._on_disconnect = on_disconnect
        self._scope = trio.CancelScope()
        self._has_ended = trio.Event()
        self._changed = trio.lowlevel.ParkingLot()
        self._failure: trio.BrokenResourceError | None = None

    async def run(self) -> None:
        """Read until the client has disconnected, or until `stop`."""
        try:
            with self._scope:
                await self._read()
                self._on_disconnect()
        finally:
            self._has_ended.set()
            self._changed.unpark_all()

    async def _read(self) -> None:
        try:
            while data := await self._transport.receive_some():
                self.received += data
                self._changed.unpark_all()
                while len(self.received) >= MAX_UNREAD_BYTES:
                    await self._changed.park()
        except trio.BrokenResourceError as error:
            self._failure = error

    async def receive_some(self) -> bytes:
        """Wait for bytes and return them; raises what `Transport.receive_some` raises."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not (self.received or self._has_ended.is_set()):
            await self._changed.park()
        if not self.received and self._failure is not None:
            raise self._failure
        data = bytes(self.received)
        self.received.clear()
        self._changed.unpark_all()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    async def stop(self) -> None:
        """Stop reading, and wait until that has happened."""
        self._scope.cancel()
        with trio.CancelScope(shield=True):  # it has been cancelled
            await self._has_ended.wait()
