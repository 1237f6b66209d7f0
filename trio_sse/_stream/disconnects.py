"""Noticing that the peer of an idle connection has disconnected, without a task for each connection.

One `epoll` holds all connections, and one task watches it. The peer of an event stream has nothing more to
send, so there are three things to notice: it closes its side (FIN; half-closing counts), it resets the
connection, or it keeps sending. Input is tolerated up to a limit and never read.

A connection that the system cannot watch, since there are no watches or no memory left, is served unwatched:
the write timeout ends its stream when its peer has disconnected. What goes wrong with one ends only that one.
"""

from __future__ import annotations

import math
import select
from typing import final

import trio

from .._groups import split_failure
from .._logger import get_logger
from .._transport.base import DisconnectListener
from .._transport.socket import SocketTransport
from .overdue import Overdue

logger = get_logger("trio_sse.server")

#: Bytes that a peer may send after its request before it is disconnected. They are never executed.
MAX_UNREAD_BYTES = 16 * 1024

# Most requests are answered within this time. A disconnect would change nothing until then, and to register a
# connection and remove it again takes two system calls.
_MOMENT = 0.005

# Cancelling a stream wakes its task. After this many events, other tasks run.
_EVENTS_PER_CHECKPOINT = 100

_LOG_AGAIN_SECONDS = 60.0


@final
class DisconnectWatcher:
    """Watches sockets in one task, on platforms that have `epoll`; only transports add and remove them.

    It knows a transport by its descriptor, which is why a transport is removed before that can close.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # Edge-triggered: bytes that are never read must not wake the task again and again.
        self._events = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
        self._watched: dict[int, tuple[SocketTransport, DisconnectListener]] = {}
        self._soon: Overdue[SocketTransport, DisconnectListener] = Overdue(_MOMENT)
        self._logged_at = -math.inf

    def __len__(self) -> int:
        return len(self._watched) + len(self._soon)

    def add_soon(self, transport: SocketTransport, listener: DisconnectListener) -> None:
        """Watch from a moment later on, unless the transport is removed before."""
        if self._watched:
            self._remove_watched(transport)
        self._soon.add(transport, listener)

    def add(self, transport: SocketTransport, listener: DisconnectListener) -> None:
        """Watch, replacing any previous listener. Report what happened before the call, too."""
        self._soon.discard(transport)
        if self._epoll.closed:  # for a handler that outlives the drain time
            return
        descriptor = transport.socket.fileno()
        if descriptor in self._watched:
            assert self._watched[descriptor][0] is transport, "a descriptor was closed while it was watched"
        else:
            try:
                self._epoll.register(descriptor, self._events)
            except OSError as error:
                self._log(error)
                return
        self._watched[descriptor] = (transport, listener)
        self._look(transport, listener, counts=False)

    def _log(self, error: OSError) -> None:
        now = trio.current_time()
        if now >= self._logged_at + _LOG_AGAIN_SECONDS:
            self._logged_at = now
            logger.error("cannot watch connections for disconnects: %s", error.strerror)

    def _look(self, transport: SocketTransport, listener: DisconnectListener, *, counts: bool) -> None:
        """Report what the peer has sent, if it matters.

        Args:
            counts: whether the bytes that have arrived are counted. When a connection is added, they are not:
                it is an event for `epoll` at once, and by then the response may have begun.
        """
        try:
            if transport.poll_input():
                listener.on_disconnect()
            elif counts and transport.unread_bytes() > MAX_UNREAD_BYTES:
                listener.on_excess_input()
        except BaseException as failure:  # of the application's own callbacks in a TLS session
            passing, contained = split_failure(failure)
            if contained is not None:
                logger.error("reading from peer=%s failed", transport.peer, exc_info=contained)
            if passing is not None:
                raise passing from None
            listener.on_disconnect()

    def remove(self, transport: SocketTransport) -> None:
        """Stop watching, if this transport is watched."""
        if not self._soon.discard(transport) and self._watched:
            self._remove_watched(transport)

    def _remove_watched(self, transport: SocketTransport) -> None:
        descriptor = transport.socket.fileno()
        entry = self._watched.get(descriptor)
        if entry is None or entry[0] is not transport:
            return
        del self._watched[descriptor]
        if not self._epoll.closed:
            self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._add_late)
            await self._watch()

    async def _add_late(self) -> None:
        while True:
            for transport, listener in list((await self._soon.wait()).items()):
                self.add(transport, listener)

    async def _watch(self) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, events in self._epoll.poll(0, _EVENTS_PER_CHECKPOINT):
                    entry = self._watched.get(descriptor)
                    if entry is None:  # an earlier one of these events has ended its stream
                        continue
                    transport, listener = entry
                    if events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                        listener.on_disconnect()
                    else:
                        self._look(transport, listener, counts=True)
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
