"""When the supervisor restarts workers that died, and why they did."""

from __future__ import annotations

import signal
import time
from typing import final

from .._backoff import delay
from .._server.worker_counts import RestartReason
from .worker_process import WorkerProcess

#: The exit status of a worker that cannot run at all; EX_CONFIG in sysexits.h.
CANNOT_RUN = 78

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_STABLE_SECONDS = 10.0  # a worker that gave signs of life for as long is not part of a crash loop
_NO_ROOM_SECONDS = 3.0  # until the next attempt, where the system had no room for a process


@final
class RestartSchedule:
    """The worker slots that wait for a restart.

    A worker that served for less than ten seconds is restarted with exponential back-off, unless it was
    drained.
    """

    def __init__(self, slots: int) -> None:
        self._due_at: dict[int, float] = {}  # by slot
        self._crashes = [0] * slots  # in a row

    def __contains__(self, slot: int) -> bool:
        """Return whether a slot waits for a restart."""
        return slot in self._due_at

    @property
    def next_at(self) -> float:
        """When the next restart is due, by `time.monotonic`."""
        return min(self._due_at.values(), default=float("inf"))

    def add(self, slot: int, served: float, *, is_drained: bool = False) -> float:
        """Schedule the restart of a worker that served for some seconds; return in how many it is due."""
        if served >= _STABLE_SECONDS:
            self._crashes[slot] = 0
            seconds = 0.0
        elif is_drained:  # by an operator, perhaps one worker after the other
            seconds = _FIRST_SECONDS
        else:
            seconds = delay(self._crashes[slot], _FIRST_SECONDS, _LONGEST_SECONDS)
            self._crashes[slot] += 1
        self._due_at[slot] = time.monotonic() + seconds
        return seconds

    def postpone(self, slot: int) -> None:
        """Schedule another attempt for a worker that could not be started."""
        self._due_at[slot] = time.monotonic() + _NO_ROOM_SECONDS

    def pop_due(self) -> list[int]:
        """Remove the slots whose restart is due, and return them."""
        now = time.monotonic()
        due = [slot for slot, at in self._due_at.items() if at <= now]
        for slot in due:
            del self._due_at[slot]
        return due

    def clear(self) -> None:
        """Restart none."""
        self._due_at.clear()


def restart_reason(worker: WorkerProcess, exit_code: int) -> RestartReason:
    """Return why a worker has ended that nobody has replaced."""
    if worker.was_killed:
        return RestartReason.HUNG if worker.has_started else RestartReason.NOT_STARTED
    match exit_code:
        case 0:
            return RestartReason.DRAINED
        case _ if exit_code == CANNOT_RUN:
            return RestartReason.CANNOT_RUN
        case _ if exit_code == -signal.SIGKILL:
            return RestartReason.KILLED
        case _:
            return RestartReason.CRASHED if exit_code < 0 else RestartReason.FAILED
