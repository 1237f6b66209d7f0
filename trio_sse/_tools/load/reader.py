"""Reading thousands of streams in one task, for the load tool.

Waking a task for each event, and registering its socket with `epoll` again, costs several times as much as
the event. Here one `epoll` holds all sockets, and one task waits for that `epoll`, as the server does to
detect disconnects.
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
    __slots__ = ("error", "over", "receive", "socket")

    def __init__(self, connected: socket.socket, receive: Callable[[bytes], bool]) -> None:
        self.socket = connected
        self.receive = receive
        self.over = trio.Event()
        self.error: Exception | None = None

    def read(self) -> None:
        """Read what has arrived."""
        try:
            data = self.socket.recv(_RECEIVE_SIZE)
            is_over = not data or self.receive(data)
        except BlockingIOError:
            return
        except Exception as error:  # `follow` raises it
            self.error = error
            is_over = True
        if is_over:
            self.over.set()


@final
class LoadReader:
    """Reads all sockets in one task. Only on platforms that have `epoll`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readings: dict[int, _Reading] = {}

    async def follow(self, connected: socket.socket, receive: Callable[[bytes], bool]) -> None:
        """Call `receive` with what arrives, until it returns true or the peer closes its side.

        Raises:
            OSError: the connection is broken.
            Exception: whatever `receive` raises.
        """
        descriptor = connected.fileno()
        reading = self._readings[descriptor] = _Reading(connected, receive)
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
