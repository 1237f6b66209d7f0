"""Noticing that the peer of an idle connection has gone, without a task for each connection.

One `epoll` holds all connections and is itself watched by one task. An event stream's peer has nothing
more to say, so there are three things to notice: it has ended its side (FIN, and half-close counts), it has
reset the connection, or it goes on sending, which is tolerated up to a bound and never read.
"""

from __future__ import annotations

import select
from typing import Protocol, final

import trio

from .._transport.socket import SocketTransport

#: Bytes that a peer may send after its request, before it is cut off. They are never executed.
MAX_UNREAD_BYTES = 16 * 1024

# Cancelling a connection wakes its task: so many at a time, then others get their turn.
_EVENTS_PER_CHECKPOINT = 100


class DisconnectListener(Protocol):
    """A connection, to the watcher."""

    def on_disconnect(self) -> None:
        """The peer has ended its side, or is gone."""

    def on_excess_input(self) -> None:
        """The peer has sent more than `MAX_UNREAD_BYTES`."""


@final
class DisconnectWatcher:
    """Watches sockets in one task; exists on platforms that have `epoll`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[SocketTransport, DisconnectListener]] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, transport: SocketTransport, watched: DisconnectListener) -> None:
        """Begin to watch, instead of whoever does; what has already happened is noticed, too."""
        descriptor = transport.socket.fileno()
        if descriptor not in self._watched:
            # Edge-triggered: bytes that nobody reads must not wake the task for ever.
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        self._watched[descriptor] = (transport, watched)

    def remove(self, transport: SocketTransport, watched: DisconnectListener) -> None:
        """Stop watching, if it still is this one who does; to be called before the socket is closed."""
        descriptor = transport.socket.fileno()
        entry = self._watched.get(descriptor)
        if entry is None or entry[1] is not watched:
            return
        del self._watched[descriptor]
        if not self._epoll.closed:  # as it is for a handler that outlives the drain time
            self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, events in self._epoll.poll(0, _EVENTS_PER_CHECKPOINT):
                    transport, watched = self._watched[descriptor]
                    if events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                        watched.on_disconnect()
                    elif transport.unread_bytes() > MAX_UNREAD_BYTES:
                        watched.on_excess_input()
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
