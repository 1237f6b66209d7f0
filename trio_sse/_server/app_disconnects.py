"""Noticing a disconnect while an app answers, if the app waits for it.

On a socket the server's `DisconnectWatcher` does this, without reading. On other streams reading is the only
way: what arrives is the client's next request, which stays in the buffer, up to a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

from .._stream.disconnects import MAX_UNREAD_BYTES, DisconnectWatcher
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .._transport.socket import SocketTransport
from .body import BodyReader


@final
class AppDisconnectWatcher:
    """Watches one client; see `DisconnectListener`."""

    __slots__ = (
        "_body",
        "_disconnects",
        "_has_read",
        "_is_stopped",
        "_on_disconnect",
        "_reading",
        "_transport",
        "_watcher",
    )

    def __init__(
        self, transport: Transport, serving: ServeScope, body: BodyReader, on_disconnect: Callable[[], None]
    ) -> None:
        """Watch a client for `wait`; what it sends meanwhile goes to the body's buffer."""
        self._transport = transport
        self._disconnects = serving.disconnects
        self._body = body
        self._on_disconnect = on_disconnect
        self._watcher: DisconnectWatcher | None = None  # while it watches
        self._reading: trio.CancelScope | None = None
        self._has_read: trio.Event | None = None  # set when the reading task has stopped
        self._is_stopped = False

    async def wait(self, disconnected: trio.Event) -> None:
        """Wait for `disconnected`, watching until it is set or `stop` is called."""
        if isinstance(self._transport, SocketTransport) and self._disconnects is not None:
            if self._watcher is None and not self._is_stopped:
                self._watcher = self._disconnects
                self._watcher.add(self._transport, self)
        elif self._reading is None and not self._is_stopped:
            await self._read_on()
        await disconnected.wait()

    async def _read_on(self) -> None:
        self._has_read = has_read = trio.Event()
        with trio.CancelScope() as self._reading:
            try:
                while len(self._body.buffer) < MAX_UNREAD_BYTES:
                    data = await self._transport.receive_some()
                    if not data:
                        break
                    self._body.buffer += data
                else:
                    return
            except trio.BrokenResourceError:
                pass
            finally:
                self._reading = None
                has_read.set()
            self._on_disconnect()

    async def stop(self) -> None:
        """Stop watching. When this returns, no task reads from the client."""
        self._is_stopped = True
        if self._watcher is not None:
            assert isinstance(self._transport, SocketTransport)
            self._watcher.remove(self._transport, self)
            self._watcher = None
        if self._reading is not None and self._has_read is not None:
            self._reading.cancel()
            await self._has_read.wait()

    def on_disconnect(self) -> None:
        """Record that the client has disconnected."""
        self._on_disconnect()

    def on_excess_input(self) -> None:
        """Do nothing: what follows the request stays unread in the socket, which bounds it."""
