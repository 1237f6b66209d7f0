"""A worker process as its supervisor sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from typing import final

_SILENT_SECONDS = 15.0  # a worker whose event loop runs sends a sign of life each second


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTimeouts:
    """How long the supervisor waits for workers, in seconds; `math.inf` means forever.

    Attributes:
        start: from a worker's fork until it accepts connections.
        silence: since the last sign of life of a worker that has started.
    """

    start: float = 30.0
    silence: float = 60.0

    @property
    def serving(self) -> float:
        """How long a worker may be silent and still count as serving."""
        return min(_SILENT_SECONDS, self.silence / 2)


@final
class WorkerProcess:
    """A worker, from its fork until the supervisor has waited for it.

    Attributes:
        slot: which of the worker slots, counted from 0, it serves.
        pipe: the descriptor to read its statistics from.
        heard_at: when its last sign of life came, by `time.monotonic`; at first, when it was forked.
        has_started: it accepts connections.
        is_ready: it accepts connections and has loaded the log.
        is_draining: it was sent SIGTERM, by the supervisor or by somebody else.
        kill_at: when to kill it, by `time.monotonic`.
        retired_at: since when another worker accepts in its slot.
        statistics: what it reported last.
        was_killed: the supervisor has killed it.
    """

    def __init__(self, pid: int, slot: int, pipe: int, timeouts: WorkerTimeouts) -> None:
        self.pid = pid
        self.slot = slot
        self.pipe = pipe
        self.began_at = self.heard_at = time.monotonic()
        self.has_started = False
        self.is_ready = False
        self.is_draining = False
        self.kill_at = float("inf")
        self.retired_at: float | None = None
        self.statistics: dict[str, int] = {}
        self.was_killed = False
        self._timeouts = timeouts
        self._has_ended = False
        self._unread = b""

    @property
    def is_replaced(self) -> bool:
        """Whether it has stopped accepting connections."""
        return self.is_draining or self.retired_at is not None

    @property
    def is_accepting(self) -> bool:
        """Whether it accepts connections, as far as the supervisor knows."""
        return self.has_started and not (self.is_replaced or self.was_killed or self.is_silent)

    @property
    def is_silent(self) -> bool:
        """Whether it has started, and its last sign of life came too long ago for it to count as serving."""
        return self.has_started and time.monotonic() >= self.heard_at + self._timeouts.serving

    @property
    def is_serving(self) -> bool:
        """Whether it accepts connections, and has loaded the log."""
        return self.is_ready and self.is_accepting

    @property
    def served(self) -> float:
        """For how many seconds it lived and gave signs of life; 0 if it has not started."""
        return self.heard_at - self.began_at if self.has_started else 0.0

    def find_fault(self, now: float) -> str | None:
        """Return why the supervisor has to kill it, or `None`: it has not started in time, or is silent."""
        limit = self._timeouts.silence if self.has_started else self._timeouts.start
        if now < self.heard_at + limit:
            return None
        return f"has been silent for {limit:g} s" if self.has_started else f"did not start within {limit:g} s"

    def read(self) -> bool:
        """Read its reports; return whether more may follow. An empty one is only a sign of life."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.pipe, 65536)
            if not data:
                return False
            *lines, self._unread = (self._unread + data).split(b"\n")
            self.heard_at = time.monotonic()
            self.has_started = True
            for line in filter(None, lines):
                self.statistics = json.loads(line)
                self.is_ready |= bool(self.statistics.pop("is_ready"))
                self.is_draining |= bool(self.statistics.pop("is_draining", False))
        return True

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended and its id may be another process's."""
        if not self._has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it. It stays in the supervisor's list until the supervisor has waited for it."""
        self.was_killed = True
        self.kill_at = float("inf")
        self.send(signal.SIGKILL)

    def end(self) -> None:
        """Read its last report, and close the pipe. The supervisor has waited for the process."""
        self._has_ended = True
        self.read()
        os.close(self.pipe)
