"""Unix sockets, and the files that are their names.

A name outlives its socket, so a program that binds one removes what is left of the last one. A name that is
in use is taken over: the other program goes on with the clients that it has, and this one gets the new ones.
That is how a service is replaced: start the new one, then stop the old one. Each removes only a name that
still is its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from .._logger import get_logger
from .._process.socket_file import SocketFile
from .errors import ProgramError

logger = get_logger("trio_sse.program")


def listen_on_path(path: str, *, mode: int) -> tuple[socket.socket, SocketFile]:
    """Listen on a Unix socket. Its file has these permissions from the start.

    Raises:
        ProgramError: the path is something else's.
        OSError: it cannot be bound.
    """
    _remove_old(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~mode)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.listen(socket.SOMAXCONN)
        return listening, SocketFile.of(path)
    except BaseException:
        listening.close()
        raise


def _remove_old(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ProgramError(f"cannot listen on unix:{path}: there is something that is not a socket")
    answer = _answer_of(path)
    if answer == errno.EPROTOTYPE:  # such as the one that programs log to
        raise ProgramError(f"cannot listen on unix:{path}: it is another program's, and takes no streams")
    if answer in (0, errno.EAGAIN, errno.EINPROGRESS):
        logger.warning("unix:%s is in use: taking it over; the other program gets no new clients", path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _answer_of(path: str) -> int:
    """Return the error number of a connection to a socket, or 0."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path)
