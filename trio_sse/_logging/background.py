"""A logging handler that never makes the caller wait for the reader of the log.

A pipe holds 64 KiB. When its reader stops reading, a write to it waits, and with it the event loop and all
streams. So what cannot be written at once is left to a thread. What waits for it is bounded; the rest is
dropped, and counted.

Files take everything at once. Of a pipe, we open a descriptor of our own that does not wait: to change the
flag of the one that we have would change it for all processes that share it. Terminals, which can be stopped,
and sockets are the thread's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import sys
import threading
import weakref
from collections import deque
from typing import IO, Any, final

#: How many lines may wait.
CAPACITY = 10_000

# How long `flush`, which Python calls when it exits, waits for the thread.
_FLUSH_SECONDS = 1.0

# A stream that cannot be selected is tried again after this time.
_RETRY_SECONDS = 0.05


@final
class BackgroundHandler(logging.Handler):
    """Writes records to a stream, and what that does not take at once from a thread of its own.

    Records are formatted where they are logged, and written in their order. Lines that are logged while too
    many wait are dropped, and those that cannot be written, because the disk is full or the reader has left;
    the next one that is written says how many.

    Args:
        stream: where to write; by default standard error, as it is when the first record is logged. If it has
            a file descriptor, that is written to directly.
        capacity: how many lines may wait.

    Attributes:
        dropped: how many lines were ever dropped.
    """

    def __init__(self, stream: IO[str] | None = None, *, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._capacity = capacity
        self._direct = DirectWriter()
        self._begin()
        _handlers.add(self)

    def _begin(self) -> None:
        """Start with nothing, as after a fork: the thread is only in the parent process."""
        self._lines: deque[bytes] = deque()
        self._unreported = 0  # of those that were dropped
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_writing = False
        self._direct.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record, and leave it to the thread."""
        try:
            line = self._encode(self.format(record) + "\n")
            with self._changed:
                self._append(line)
        except Exception:
            self.handleError(record)

    def _append(self, line: bytes) -> None:
        if len(self._lines) >= self._capacity:
            self._drop(1)
            return
        if not (self._lines or self._is_writing):
            try:
                line = self._write_now(line)
            except OSError:
                self._drop(1)
                return
            if not line:
                return
        self._lines.append(line)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="trio_sse log", daemon=True)
            thread.start()
            self._thread = thread  # not before: where there is none, the next line tries again
        self._changed.notify_all()

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._unreported += lines

    def _write_now(self, line: bytes) -> bytes:
        """Write what can be written at once; return the rest."""
        descriptor = _descriptor_of(self._target)
        if descriptor is None:
            return line
        notice = _notice(self._unreported)
        written = self._direct.write(descriptor, notice + line)
        if not written:
            return line
        self._unreported = 0
        return (notice + line)[written:]

    @property
    def _target(self) -> Any:
        return sys.stderr if self._stream is None else self._stream

    @property
    def _encoding(self) -> str:
        return getattr(self._target, "encoding", None) or "utf-8"

    def _encode(self, text: str) -> bytes:
        return text.encode(self._encoding, "backslashreplace")

    def flush(self) -> None:
        """Wait until all lines have been written, for a second at most."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._is_writing), _FLUSH_SECONDS)

    def close(self) -> None:
        """Flush; later records are written, too, if the process goes on."""
        self.flush()
        self._direct.close()
        super().close()

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                lines, unreported = len(self._lines), self._unreported
                data = b"".join(self._lines) + _notice(unreported)
                self._lines.clear()
                self._unreported = 0
                self._is_writing = True
            try:
                self._write(data)
            except Exception:
                with self._changed:
                    self._drop(lines)
                    self._unreported += unreported

    def _write(self, data: bytes) -> None:
        descriptor = _descriptor_of(self._target)
        if descriptor is None:
            self._target.write(data.decode(self._encoding))
            self._target.flush()
            return
        # Not through the stream: a thread that waits in it would hold its lock when Python exits.
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:
                _wait_writable(descriptor)


@final
class DirectWriter:
    """Writes to a descriptor what that takes without waiting."""

    def __init__(self) -> None:
        self._pipe: tuple[int, int] | None = None  # the device and number of the pipe that `_own` writes to
        self._own = -1

    def write(self, descriptor: int, data: bytes) -> int:
        """Write as much as can be written without waiting; return how much that was.

        Raises:
            OSError: nobody reads it any more.
        """
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return os.write(descriptor, data)
        if not stat.S_ISFIFO(status.st_mode):
            return 0
        pipe = status.st_dev, status.st_ino
        if self._pipe != pipe or not self._is_ours():
            self._open(descriptor, pipe)
        if self._own < 0:
            return 0
        try:
            return os.write(self._own, data)
        except BlockingIOError:
            return 0

    def _open(self, descriptor: int, pipe: tuple[int, int]) -> None:
        self.close()
        self._pipe = pipe
        with contextlib.suppress(OSError):  # no /proc, or the pipe is another user's
            self._own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _is_ours(self) -> bool:
        """Return whether our descriptor is still the pipe's.

        Programs that become daemons close all descriptors that they do not know. Then the number may be
        that of a client's connection.
        """
        if self._own < 0:
            return True
        try:
            status = os.fstat(self._own)
        except OSError:
            return False
        return self._pipe == (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Close the descriptor of our own; it is opened again on the next write."""
        if self._own >= 0 and self._is_ours():
            os.close(self._own)
        self._own, self._pipe = -1, None


def _notice(dropped: int) -> bytes:
    if not dropped:
        return b""
    return b"%d lines of the log were dropped, as they could not be written\n" % dropped


def _wait_writable(descriptor: int) -> None:
    """Wait until a descriptor, whose number may be any, can be written to; not for long."""
    polled = select.poll()
    polled.register(descriptor, select.POLLOUT)
    polled.poll(1000 * _RETRY_SECONDS)


def _descriptor_of(stream: Any) -> int | None:
    """Return the descriptor that a stream writes to, if it has one."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
    return descriptor if isinstance(descriptor, int) else None


_handlers: weakref.WeakSet[BackgroundHandler] = weakref.WeakSet()


def _restart_after_fork() -> None:
    for handler in list(_handlers):
        with contextlib.suppress(Exception):
            handler._begin()


os.register_at_fork(after_in_child=_restart_after_fork)
