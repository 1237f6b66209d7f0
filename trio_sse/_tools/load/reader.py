"""Reading thousands of streams in one task, for the load tool.

A task that waits for each event costs several times what the event does: it has to be woken, and its socket
has to be handed to `epoll` anew. Here one `epoll` holds all sockets, and is itself watched by one task, as
`_hangup` does it for the server.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import final

import trio

_RECEIVE_SIZE = 16 * 1024
_EVENTS_PER_CHECKPOINT = 100


@final
class _Reading:
    __slots__ = ("error", "over", "socket", "take")

    def __init__(self, connected: socket.socket, take: Callable[[bytes], bool]) -> None:
        self.socket = connected
        self.take = take
        self.over = trio.Event()
        self.error: Exception | None = None

    def read(self) -> None:
        """Take what has come."""
        try:
            data = self.socket.recv(_RECEIVE_SIZE)
            is_over = not data or self.take(data)
        except BlockingIOError:
            return
        except Exception as error:  # it is raised where the stream is followed
            self.error = error
            is_over = True
        if is_over:
            self.over.set()


@final
class LoadReader:
    """Reads sockets in one task; exists on platforms that have `epoll`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readings: dict[int, _Reading] = {}

    async def follow(self, connected: socket.socket, take: Callable[[bytes], bool]) -> None:
        """Give `take` what comes, until that returns true or the peer ends its side.

        Raises:
            OSError: the connection is broken.
            Exception: what `take` raises.
        """
        descriptor = connected.fileno()
        reading = self._readings[descriptor] = _Reading(connected, take)
        self._epoll.register(descriptor, select.EPOLLIN)
        try:
            await reading.over.wait()
        finally:
            del self._readings[descriptor]
            if not self._epoll.closed:
                self._epoll.unregister(descriptor)
        if reading.error is not None:
            raise reading.error

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, _ in self._epoll.poll(0, _EVENTS_PER_CHECKPOINT):
                    reading = self._readings[descriptor]
                    if not reading.over.is_set():
                        reading.read()
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
