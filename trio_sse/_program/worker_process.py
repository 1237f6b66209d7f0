"""A worker process as its supervisor sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import final

_SILENT_SECONDS = 15.0  # it tells its figures each second, or some seconds where there are very many streams


@final
class WorkerProcess:
    """A worker, from its fork until it has been waited for."""

    def __init__(self, pid: int, place: int, pipe: int) -> None:
        self.pid = pid
        self.place = place
        self.pipe = pipe
        self.began_at = time.monotonic()
        self.is_ready = False  # it accepts, and has had the log
        self.is_leaving = False  # it was told to drain
        self.kill_at = float("inf")
        self.retired_at: float | None = None  # since when another one accepts in its place
        self.figures: dict[str, int] = {}
        self._told_at = self.began_at
        self._has_ended = False
        self._unread = b""

    @property
    def is_replaced(self) -> bool:
        """Whether it takes no connections any more."""
        return self.is_leaving or self.retired_at is not None

    @property
    def is_serving(self) -> bool:
        """Whether it takes connections, and has told so lately."""
        return self.is_ready and not self.is_replaced and time.monotonic() < self._told_at + _SILENT_SECONDS

    def read(self) -> bool:
        """Take what it tells; return whether there is more to come."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.pipe, 65536)
            if not data:
                return False
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self.figures = json.loads(line)
                self.is_ready |= bool(self.figures.pop("is_ready"))
                self._told_at = time.monotonic()
        return True

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, as long as its id can't be another process's."""
        if not self._has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self) -> None:
        """Take its last figures: it has ended, and been waited for."""
        self._has_ended = True
        self.read()
        os.close(self.pipe)
