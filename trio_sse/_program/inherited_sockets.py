"""Listening sockets that another program has opened: systemd's (sd_listen_fds(3)), and those of `fd://`.

They stay the other program's: after this one has ended, or while it is restarted, clients wait in their
queues. So nothing is done to them that would last, and no name of theirs is removed.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping

from .errors import ProgramError

_FIRST = 3  # SD_LISTEN_FDS_START
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def take_activated_sockets(environment: MutableMapping[str, str]) -> dict[int, socket.socket]:
    """Return the sockets that systemd has passed to this process, by their descriptors.

    The variables that say so are removed, so that no child takes itself for the one they are for.

    Raises:
        ProgramError: one of them cannot be served.
    """
    is_ours = environment.get("LISTEN_PID") == str(os.getpid())
    count = environment.get("LISTEN_FDS", "")
    if not is_ours:
        return {}  # they are for a process that has started this one
    for name in _VARIABLES:
        environment.pop(name, None)
    if not (count.isascii() and count.isdigit() and len(count) <= 4):
        raise ProgramError(f"LISTEN_FDS must be a number of sockets, not {count!r}")
    return {number: take_socket(number, f"socket {number} of LISTEN_FDS") for number in _numbers(int(count))}


def _numbers(count: int) -> range:
    return range(_FIRST, _FIRST + count)


def take_socket(number: int, name: str) -> socket.socket:
    """Return an inherited descriptor as a listening socket. The caller owns it.

    Raises:
        ProgramError: it is not a socket that streams can be accepted from.
    """
    try:
        is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError as error:
        raise ProgramError(f"{name} is not open: {error.strerror}") from error
    if not is_socket:
        raise ProgramError(f"{name} is not a socket")
    os.set_inheritable(number, False)
    taken = socket.socket(fileno=number)
    if fault := _find_fault(taken):
        taken.detach()
        raise ProgramError(f"{name} {fault}")
    return taken


def _find_fault(taken: socket.socket) -> str | None:
    """Return why a socket cannot be served. One that is bound, but does not listen, is made to listen."""
    if taken.type != socket.SOCK_STREAM:
        return f"is of the type {_name_of(taken.type)}, not SOCK_STREAM (ListenStream= in a systemd unit)"
    if taken.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return f"is of the family {_name_of(taken.family)}; a TCP or Unix socket is needed"
    try:
        taken.getpeername()
    except OSError:
        pass
    else:
        return "is a connection, not a listening socket (Accept=no in a systemd unit)"
    if not taken.getsockname() or (taken.family != socket.AF_UNIX and not taken.getsockname()[1]):
        return "is not bound to an address"
    try:
        if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            taken.listen(socket.SOMAXCONN)
    except OSError as error:  # not every platform can read SO_ACCEPTCONN
        try:
            taken.listen(socket.SOMAXCONN)
        except OSError:
            return f"cannot listen: {error.strerror}"
    return None


def _name_of(number: int) -> str:
    return getattr(number, "name", str(number))
