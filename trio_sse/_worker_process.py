"""A worker process as its supervisor sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from typing import final


@final
class WorkerProcess:
    """A worker, from its fork until it has been waited for."""

    def __init__(self, pid: int, place: int, pipe: int) -> None:
        self.pid = pid
        self.place = place
        self.pipe = pipe
        self.began_at = time.monotonic()
        self.is_ready = False
        self.is_leaving = False  # it was told to drain
        self.kill_at = float("inf")
        self.retired_at: float | None = None  # since when another one accepts in its place
        self.figures: Mapping[str, int] = {}
        self._has_ended = False
        self._unread = b""

    @property
    def is_replaced(self) -> bool:
        """Whether it takes no connections any more."""
        return self.is_leaving or self.retired_at is not None

    def read(self) -> bool:
        """Take what it tells; return whether there is more to come."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.pipe, 65536)
            if not data:
                return False
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self.figures = json.loads(line)
                self.is_ready = True
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
