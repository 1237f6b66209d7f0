"""Unix sockets, and the files that are their names.

A name outlives its socket, so a program that binds one removes what is left of the last one. A name that is
in use is taken over: the other program goes on with the clients that it has, and this one gets the new ones.
That is how a service is replaced: start the new one, then stop the old one. Each removes only a name that
still is its own. If the new one fails to start, the old one gets its name back: until then, its socket has
another one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import stat
from typing import final

from .._logger import get_logger
from .._process.socket_file import SocketFile
from .errors import ProgramError

logger = get_logger("trio_sse.program")


@final
class UnixName:
    """The name of a Unix socket that this program has bound, and the socket that had the name before."""

    def __init__(self, path: str, old: str | None) -> None:
        """Name a socket that has just been bound; raises `OSError` if it has no name.

        Args:
            old: the other name of the socket from which this name was taken over.
        """
        self._file = SocketFile.of(path)
        self._old = old

    def keep(self) -> None:
        """Keep the name, whatever happens: this program serves now."""
        old, self._old = self._old, None
        if old is not None:
            _remove(old)

    def remove(self) -> None:
        """Remove the name, unless it is another socket's by now; give it back if it was not kept."""
        old, self._old = self._old, None
        if old is None:
            self._file.remove()
        elif not self._file.is_there():
            _remove(old)
        else:
            os.rename(old, self._file.path)
            if not _is_in_use(_answer_of(self._file.path)):  # the other program has ended meanwhile
                _remove(self._file.path)


def listen_on_path(path: str, *, mode: int) -> tuple[socket.socket, UnixName]:
    """Listen on a Unix socket. Its file has these permissions from the start.

    Raises:
        ProgramError: the path is something else's.
        OSError: it cannot be bound.
    """
    old = _make_way(path)
    try:
        return _listen(path, mode, old)
    except BaseException:
        if old is not None:
            os.rename(old, path)
        raise


def _listen(path: str, mode: int, old: str | None) -> tuple[socket.socket, UnixName]:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~mode)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.listen(socket.SOMAXCONN)
        return listening, UnixName(path, old)
    except BaseException:
        listening.close()
        raise


def _make_way(path: str) -> str | None:
    """Remove what is left of the last socket; return the other name of a socket that is in use."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(found.st_mode):
        raise ProgramError(f"cannot listen on unix:{path}: there is something that is not a socket")
    answer = _answer_of(path)
    if answer == errno.EPROTOTYPE:  # such as the one that programs log to
        raise ProgramError(f"cannot listen on unix:{path}: it is another program's, and takes no streams")
    if _is_in_use(answer):
        logger.warning("unix:%s is in use: taking it over; the other program gets no new clients", path)
        old = f"{path}.old-{secrets.token_hex(4)}"
        os.rename(path, old)
        return old
    _remove(path)
    return None


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _is_in_use(answer: int) -> bool:
    return answer in (0, errno.EAGAIN, errno.EINPROGRESS)


def _answer_of(path: str) -> int:
    """Return the error number of a connection to a socket, or 0."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path)
