"""A logging handler that never makes the caller wait for whoever reads the log.

A pipe holds 64 KiB. When its reader stops reading, a write to it waits, and with it the event loop and all
streams. So a thread writes. What waits for it is bounded; the rest is dropped, and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
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
    """Writes records to a stream from a thread of its own.

    Records are formatted where they are logged. Lines that are logged while too many wait are dropped; the
    next one that is written says how many. When the reader has left for good, everything is dropped.

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
        self._has_left = False  # the reader
        self._begin()
        _handlers.add(self)

    def _begin(self) -> None:
        """Start with nothing, as after a fork: the thread is only in the parent process."""
        self._lines: deque[str] = deque()
        self._untold = 0  # of those that were dropped
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_writing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record, and leave it to the thread."""
        try:
            line = self.format(record) + "\n"
            with self._changed:
                self._append(line)
        except Exception:
            self.handleError(record)

    def _append(self, line: str) -> None:
        if len(self._lines) >= self._capacity or self._has_left:
            self.dropped += 1
            self._untold += 1
            return
        self._lines.append(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="trio_sse log", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines have been written, for a second at most."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._is_writing), _FLUSH_SECONDS)

    def close(self) -> None:
        """Flush; later records are written, too, if the process goes on."""
        self.flush()
        super().close()

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines)
                text = "".join(self._lines)
                self._lines.clear()
                if self._untold:
                    text += f"{self._untold} lines of the log were dropped, since nobody read it\n"
                    self._untold = 0
                self._is_writing = True
            try:
                self._write(text)
            except Exception:
                with self._changed:
                    self._has_left = True

    def _write(self, text: str) -> None:
        stream: Any = sys.stderr if self._stream is None else self._stream
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError, AttributeError):
            stream.write(text)
            stream.flush()
            return
        # Not through the stream: a thread that waits in it would hold its lock when Python exits.
        data = memoryview(text.encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace"))
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                select.select([], [descriptor], [], _RETRY_SECONDS)


_handlers: weakref.WeakSet[BackgroundHandler] = weakref.WeakSet()


def _restart_after_fork() -> None:
    for handler in list(_handlers):
        with contextlib.suppress(Exception):
            handler._begin()


os.register_at_fork(after_in_child=_restart_after_fork)
