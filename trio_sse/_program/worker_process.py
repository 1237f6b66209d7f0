"""A worker process as its supervisor sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import final

_SILENT_SECONDS = 15.0  # a worker reports each second, or each few seconds where it has very many streams


@final
class WorkerProcess:
    """A worker, from its fork until the supervisor has waited for it.

    Attributes:
        slot: which of the worker slots, counted from 0, it serves.
        pipe: the descriptor to read its statistics from.
        is_ready: it accepts connections and has loaded the log.
        is_draining: it was sent SIGTERM.
        kill_at: when to kill it, by `time.monotonic`.
        retired_at: since when another worker accepts in its slot.
        statistics: what it reported last.
    """

    def __init__(self, pid: int, slot: int, pipe: int) -> None:
        self.pid = pid
        self.slot = slot
        self.pipe = pipe
        self.began_at = time.monotonic()
        self.is_ready = False
        self.is_draining = False
        self.kill_at = float("inf")
        self.retired_at: float | None = None
        self.statistics: dict[str, int] = {}
        self._reported_at = self.began_at
        self._has_ended = False
        self._unread = b""

    @property
    def is_replaced(self) -> bool:
        """Whether it has stopped accepting connections."""
        return self.is_draining or self.retired_at is not None

    @property
    def is_serving(self) -> bool:
        """Whether it accepts connections, and has reported lately."""
        is_silent = time.monotonic() >= self._reported_at + _SILENT_SECONDS
        return self.is_ready and not self.is_replaced and not is_silent

    def read(self) -> bool:
        """Read its reports; return whether more may follow."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.pipe, 65536)
            if not data:
                return False
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self.statistics = json.loads(line)
                self.is_ready |= bool(self.statistics.pop("is_ready"))
                self._reported_at = time.monotonic()
        return True

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended and its id may be another process's."""
        if not self._has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self) -> None:
        """Read its last report, and close the pipe. The supervisor has waited for the process."""
        self._has_ended = True
        self.read()
        os.close(self.pipe)
