"""A warning when something keeps the event loop: while one task runs, no stream is served.

The check is an instrument of Trio's, called before and after each step of each task. That is two short calls
a step; a broadcast has one step for every hundred writes.
"""

from __future__ import annotations

import logging
import os
from time import perf_counter
from typing import final

import trio

logger = logging.getLogger("trio_sse.process")


@final
class Watchdog(trio.abc.Instrument):
    """Warns of steps that take longer than `limit` seconds, naming the task."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._began_at = perf_counter()

    def begin(self) -> None:
        """Count from now: it is called within the step in which it is added, which has no beginning for
        it."""
        self._began_at = perf_counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_at = perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        seconds = perf_counter() - self._began_at
        if seconds > self._limit:
            logger.warning(
                "task %s kept the event loop for %.1f s, and all streams waited: %s",
                task.name,
                seconds,
                _remedy(),
            )


def _remedy() -> str:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 2 * cores:
        return f"this machine of {cores} cores is overloaded (load average {load:.0f})"
    return "use trio.to_thread.run_sync"
