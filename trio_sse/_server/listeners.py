"""Listening sockets and the accept loop.

The loop uses the standard library's sockets. It accepts until no client waits, and only then waits itself, so
a rush of clients does not cost a task switch for each.

Without a free file descriptor, a process cannot even refuse a client, and the listening socket stays readable
forever. So clients do not get the last descriptors, which the program itself may need: to connect to its log,
for example. If these are gone, too, there is one descriptor in reserve: it is closed, the client is accepted
and disconnected, and the reserve is opened again.

At the end, the clients that wait are accepted, too, as closing a socket resets them; see
`_process/handshakes.py`. That refuses further handshakes only on sockets that no other process has. Another
process may go on accepting on the others, and then closing them resets nobody.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Callable, Sequence
from typing import final

import trio

from .._logger import get_logger
from .._process.descriptors import first_reserved, first_to_raise_for, raise_descriptor_limit
from .._process.handshakes import handshake_seconds, refuse_handshakes
from .._process.listening_socket import ListeningSocket

logger = get_logger("trio_sse.server")

_ACCEPTS_PER_CHECKPOINT = 64

# At the end, clients that the kernel has accepted are accepted, too: a backlog can hold this many by default.
_ACCEPTS_AT_END = 4096

# A worker's socket does not listen while its slot is withdrawn, as when the worker takes long to start. This
# long, that is nothing to be logged.
_DEAF_SECONDS = 5.0

# So that the server notices first that a client accepts no bytes, and logs that instead of a disconnect.
_KERNEL_EXTRA_SECONDS = 5.0

# Errors of `accept` that concern one connection; the next ones may be fine (accept(2)).
_ONE_CONNECTION_FAILED = (
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

#: Receives an accepted socket, which is non-blocking, and the address of its peer.
OnAccept = Callable[[socket.socket, object], None]


def as_sockets(listeners: Sequence[trio.SocketListener | socket.socket]) -> list[socket.socket]:
    """Return the listeners' sockets as the standard library's, which the caller now owns."""
    sockets: list[socket.socket] = []
    for listener in listeners:
        if isinstance(listener, trio.SocketListener):
            taken = listener.socket
            sockets.append(ListeningSocket(taken.family, taken.type, taken.proto, fileno=taken.detach()))
        else:
            sockets.append(listener)
    return sockets


def prepare(listening: socket.socket, *, send_buffer: int, write_timeout: float) -> None:
    """Set the options that accepted sockets inherit.

    Raises:
        ValueError: the socket does not listen, and shares its address with no other one.
    """
    if _option(listening, "SO_ACCEPTCONN") == 0 and not _option(listening, "SO_REUSEPORT"):
        raise ValueError(f"{listening} does not listen: call its listen() first")
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT") and write_timeout != float("inf"):
        milliseconds = min(round((write_timeout + _KERNEL_EXTRA_SECONDS) * 1000), 2**31 - 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _option(listening: socket.socket, name: str) -> int | None:
    """Return an option of a socket; `None` where the system does not tell.

    macOS has the name of SO_ACCEPTCONN, and no such option.
    """
    option: int | None = getattr(socket, name, None)
    if option is None:
        return None
    try:
        return listening.getsockopt(socket.SOL_SOCKET, option)
    except OSError:
        return None


@final
class Acceptor:
    """Accepts connections on several sockets, which it owns, with one reserve descriptor for all.

    Args:
        exclusive: no other process has these sockets.
        on_turn_away: called when a client was disconnected at once, since there are too few descriptors.
        for_operators: the clients are operators', who may use some of the descriptors kept from others.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        on_accept: OnAccept,
        *,
        exclusive: bool = False,
        on_turn_away: Callable[[], None] = lambda: None,
        for_operators: bool = False,
    ) -> None:
        self._sockets = sockets
        self._on_accept = on_accept
        self._on_turn_away = on_turn_away
        self._for_operators = for_operators
        self._first_refused = first_to_raise_for(for_operators=for_operators)
        self._has_raised_limit = False
        self._is_exclusive = exclusive
        self._reserve: int | None = None
        self._logged_at = float("-inf")

    async def run(self, stop: trio.CancelScope, *, is_draining: Callable[[], bool] = lambda: False) -> None:
        """Accept until cancelled; then close the sockets.

        If it is `stop` that is cancelled, accept those that wait first. If no process will accept after this
        one, because the sockets are exclusive or the server drains, wait for handshakes under way, too.
        """
        try:
            self._reserve = _open_reserve()
            with stop:
                async with trio.open_nursery() as nursery:
                    for listening in self._sockets:
                        nursery.start_soon(self._accept_from, listening)
            if self._is_exclusive:
                refuse_handshakes(self._sockets)
            is_last = self._is_exclusive or is_draining()
            async with trio.open_nursery() as nursery:
                for listening in self._sockets:
                    nursery.start_soon(self._accept_rest, listening, is_last)
        finally:
            for listening in self._sockets:
                if listening.fileno() != -1:
                    trio.lowlevel.notify_closing(listening)
                    listening.close()
            self._close_reserve()

    async def _accept_rest(self, listening: socket.socket, is_last: bool) -> None:
        """Accept the clients that wait; wait for handshakes under way if this is the last chance for them."""
        if is_last and (seconds := handshake_seconds(listening)):
            with trio.move_on_after(seconds):
                await self._accept_from(listening)
        for _ in range(_ACCEPTS_AT_END):
            try:
                connected, address = listening.accept()
            except OSError as error:
                if error.errno in _ONE_CONNECTION_FAILED:
                    continue
                break  # none is left, or no descriptor
            self._admit(connected, address)
        listening.close()  # at once, as each client that connects meanwhile is reset

    async def _accept_from(self, listening: socket.socket) -> None:
        deaf_since = math.inf  # since when it does not listen
        while True:
            await trio.lowlevel.wait_readable(listening)
            for _ in range(_ACCEPTS_PER_CHECKPOINT):
                try:
                    connected, address = listening.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _ONE_CONNECTION_FAILED:
                        continue
                    if error.errno == errno.EMFILE and self._raise_limit():
                        continue
                    if error.errno == errno.EINVAL:
                        deaf_since = min(deaf_since, trio.current_time())
                    if error.errno != errno.EINVAL or trio.current_time() >= deaf_since + _DEAF_SECONDS:
                        self._log(error.strerror)
                    if error.errno in _OUT_OF_DESCRIPTORS and self._turn_away(listening):
                        await trio.lowlevel.checkpoint()
                    else:
                        await trio.sleep(0.1)  # such as out of memory: only time helps
                    break
                deaf_since = math.inf
                self._admit(connected, address)

    def _admit(self, connected: socket.socket, address: object) -> None:
        """Pass a client on, unless it has taken one of the descriptors that are not for clients."""
        if connected.fileno() < self._first_refused or self._raise_limit_for(connected):
            connected.setblocking(False)
            self._on_accept(connected, address)
            return
        connected.close()
        self._on_turn_away()
        self._log("the file descriptors that are left are for the program itself")

    def _raise_limit_for(self, connected: socket.socket) -> bool:
        """Raise the limit of descriptors, once; return whether there is one for this client now.

        Somebody may also have raised it since, by `prlimit`.
        """
        self._raise_limit()
        self._first_refused = max(self._first_refused, first_reserved(for_operators=self._for_operators))
        return connected.fileno() < self._first_refused

    def _raise_limit(self) -> bool:
        if self._has_raised_limit:
            return False
        self._has_raised_limit = True
        raise_descriptor_limit()
        self._first_refused = max(self._first_refused, first_reserved(for_operators=self._for_operators))
        return True

    def _turn_away(self, listening: socket.socket) -> bool:
        """Accept a client with the reserve descriptor and close it at once; return whether that worked."""
        if not self._close_reserve():
            self._reserve = _open_reserve()
            return False
        try:
            connected, _ = listening.accept()
            connected.close()
        except OSError:
            return False
        finally:
            self._reserve = _open_reserve()
        self._on_turn_away()
        return True

    def _close_reserve(self) -> bool:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            os.close(reserve)
        return reserve is not None

    def _log(self, reason: str | None) -> None:
        """Log why clients cannot be accepted, at most once a second."""
        now = trio.current_time()
        if now >= self._logged_at + 1:
            self._logged_at = now
            logger.error("cannot accept connections: %s; new clients are disconnected", reason)


def _open_reserve() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
