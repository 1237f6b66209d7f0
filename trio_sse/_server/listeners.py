"""Listening sockets and the accept loop.

The loop works on sockets of the standard library: it accepts until there is nothing to accept and only then
waits, so a rush of clients costs no task switch for each. When the process runs out of file descriptors, it
can't even refuse a client, and the listening socket would be readable for ever. So one descriptor is kept in
reserve: it is given up to accept the client, which is closed at once, and taken back.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import final

import trio

logger = logging.getLogger("trio_sse.server")

_ACCEPTS_PER_CHECKPOINT = 64

# What `accept` may report of one connection that went wrong; the others are fine (accept(2)).
_OF_ONE_CONNECTION = (
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.EPERM,
    errno.EINTR,
    errno.EOPNOTSUPP,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
)
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

Accepted = Callable[[socket.socket, object], None]


def as_sockets(listeners: Sequence[trio.SocketListener | socket.socket]) -> list[socket.socket]:
    """Take the listeners' sockets over, as sockets of the standard library."""
    sockets: list[socket.socket] = []
    for listener in listeners:
        if isinstance(listener, trio.SocketListener):
            taken = listener.socket
            sockets.append(socket.socket(taken.family, taken.type, taken.proto, fileno=taken.detach()))
        else:
            sockets.append(listener)
    return sockets


def prepare(listening: socket.socket, *, send_buffer: int, write_timeout: float) -> None:
    """Set what accepted sockets inherit; raises `ValueError` for a socket that doesn't listen."""
    if hasattr(socket, "SO_ACCEPTCONN") and not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"{listening} doesn't listen: call its listen() before")
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT") and write_timeout != float("inf"):
        milliseconds = min(round(write_timeout * 1000), 2**31 - 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


@final
class Acceptor:
    """Accepts connections on several sockets, which it owns, with one reserve descriptor for all."""

    def __init__(self, sockets: Sequence[socket.socket], accepted: Accepted) -> None:
        """Give every accepted socket, non-blocking, and its peer's address to `accepted`."""
        self._sockets = sockets
        self._accepted = accepted
        self._reserve: int | None = None
        self._complained_at = float("-inf")

    async def run(self) -> None:
        """Accept until cancelled; then the sockets are closed."""
        try:
            self._reserve = _open_reserve()
            async with trio.open_nursery() as nursery:
                for listening in self._sockets:
                    nursery.start_soon(self._accept_from, listening)
        finally:
            for listening in self._sockets:
                if listening.fileno() != -1:
                    trio.lowlevel.notify_closing(listening)
                    listening.close()
            self._give_up_reserve()

    async def _accept_from(self, listening: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            for _ in range(_ACCEPTS_PER_CHECKPOINT):
                try:
                    connected, address = listening.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _OF_ONE_CONNECTION:
                        continue
                    self._complain(error)
                    if error.errno in _OUT_OF_DESCRIPTORS and self._turn_away(listening):
                        await trio.lowlevel.checkpoint()
                    else:
                        await trio.sleep(0.1)  # out of memory, say: all that helps is time
                    break
                connected.setblocking(False)
                self._accepted(connected, address)

    def _turn_away(self, listening: socket.socket) -> bool:
        """Accept a client by means of the reserve descriptor, only to close it. Return whether it worked."""
        if not self._give_up_reserve():
            self._reserve = _open_reserve()
            return False
        try:
            connected, _ = listening.accept()
            connected.close()
        except OSError:
            return False
        finally:
            self._reserve = _open_reserve()
        return True

    def _give_up_reserve(self) -> bool:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            os.close(reserve)
        return reserve is not None

    def _complain(self, error: OSError) -> None:
        now = trio.current_time()
        if now >= self._complained_at + 1:
            self._complained_at = now
            logger.error("can't accept connections: %s; clients are turned away", error.strerror)


def _open_reserve() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
