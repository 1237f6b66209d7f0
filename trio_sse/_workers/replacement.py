"""Replacing all workers on SIGHUP, without refusing a connection.

For each worker a new one starts first. When the new one is ready, the old one stops accepting. The old ones
drain when all are replaced, one after the other. If each old worker drained as soon as it was replaced, some
of its clients would reconnect to workers not replaced yet, and the last of those would hold e times the
average.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, final

from .._logger import get_logger
from .worker_process import WorkerProcess

logger = get_logger("trio_sse.program")

_RETIRE_SECONDS = 1.0  # for a worker that no longer accepts to answer what it has accepted


class _Handover(NamedTuple):
    old: WorkerProcess
    new: WorkerProcess
    deadline: float


@final
class RollingReplacement:
    """Replaces workers one by one.

    Args:
        workers: those that run, by process id.
        start: starts a worker in a slot, or returns `None` if that is not possible now.
        drain: makes a worker drain.
        ready_timeout: how many seconds a new worker may take to listen and to load the log. After that the
            old one stays.
    """

    def __init__(
        self,
        workers: Mapping[int, WorkerProcess],
        start: Callable[[int], WorkerProcess | None],
        drain: Callable[[WorkerProcess], None],
        ready_timeout: float,
    ) -> None:
        self._workers = workers
        self._start = start
        self._drain = drain
        self._ready_timeout = ready_timeout
        self._waiting: list[WorkerProcess] = []
        self._handover: _Handover | None = None
        self._retired: list[WorkerProcess] = []  # in the order in which they will drain

    @property
    def is_active(self) -> bool:
        """Whether there are workers still to be replaced."""
        return bool(self._waiting) or self._handover is not None

    def begin(self) -> None:
        """Begin to replace all workers that accept connections."""
        self._waiting = [worker for worker in self._workers.values() if not worker.is_replaced]

    def cancel(self) -> None:
        """Replace no more of them."""
        self._waiting.clear()
        self._retired.clear()
        self._handover = None

    def step(self) -> None:
        """Do what can be done now."""
        if self._handover is not None and not self._has_finished(self._handover):
            return
        self._handover = None
        while self._waiting and self._handover is None:
            old = self._waiting.pop(0)
            if old.pid in self._workers and not old.is_replaced:
                new = self._start(old.slot)
                if new is not None:
                    self._handover = _Handover(old, new, time.monotonic() + self._ready_timeout)
        if self._handover is None and not any(worker.is_draining for worker in self._workers.values()):
            self._drain_next()

    def _has_finished(self, handover: _Handover) -> bool:
        """Retire the old worker if the new one is ready; return whether the handover is over."""
        old, new, deadline = handover
        if new.is_ready:
            old.retired_at = time.monotonic()
            old.send(signal.SIGUSR2)
            self._retired.append(old)
        elif new.pid in self._workers and time.monotonic() < deadline:
            return False
        else:
            logger.error("the new worker %d did not become ready: replacing no more workers", new.slot)
            new.kill()
            new.is_draining = True
            self._waiting.clear()
        return True

    def _drain_next(self) -> None:
        """Drain the worker that retired first, once it has had time to answer what it accepted."""
        self._retired = [worker for worker in self._retired if worker.pid in self._workers]
        if self._retired:
            first = self._retired[0]
            assert first.retired_at is not None
            if time.monotonic() >= first.retired_at + _RETIRE_SECONDS:
                self._drain(self._retired.pop(0))
