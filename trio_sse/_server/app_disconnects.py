"""Noticing that a client has gone while an app answers it, as long as the app asks.

On a socket the server's `DisconnectWatcher` does it, and nothing is read. On other streams there is no way
but to read: what comes is the client's next request, which is kept in the buffer for later, up to a bound.
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
class PeerWatch:
    """Watches one client; see `DisconnectListener`."""

    __slots__ = (
        "_body",
        "_disconnects",
        "_gone",
        "_has_read",
        "_is_stopped",
        "_reading",
        "_transport",
        "_watcher",
    )

    def __init__(
        self, transport: Transport, serving: ServeScope, body: BodyReader, gone: Callable[[], None]
    ) -> None:
        """Call `gone` when the client has gone; what it sends meanwhile goes to the body's buffer."""
        self._transport = transport
        self._disconnects = serving.disconnects
        self._body = body
        self._gone = gone
        self._watcher: DisconnectWatcher | None = None  # that watches
        self._reading: trio.CancelScope | None = None
        self._has_read: trio.Event | None = None  # set when the reading task has stopped
        self._is_stopped = False

    async def wait(self, gone: trio.Event) -> None:
        """Watch until the client has gone, or until stopped and it is told otherwise."""
        if isinstance(self._transport, SocketTransport) and self._disconnects is not None:
            if self._watcher is None and not self._is_stopped:
                self._watcher = self._disconnects
                self._watcher.add(self._transport, self)
        elif self._reading is None and not self._is_stopped:
            await self._read_on()
        await gone.wait()

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
            self._gone()

    async def stop(self) -> None:
        """Stop watching; when this returns, nobody reads from the client."""
        self._is_stopped = True
        if self._watcher is not None:
            assert isinstance(self._transport, SocketTransport)
            self._watcher.remove(self._transport, self)
            self._watcher = None
        if self._reading is not None and self._has_read is not None:
            self._reading.cancel()
            await self._has_read.wait()

    def on_disconnect(self) -> None:
        """Take note that the client has gone."""
        self._gone()

    def on_excess_input(self) -> None:
        """Do nothing: what follows the request stays unread in the socket, and so is bounded."""
