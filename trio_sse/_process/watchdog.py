"""A warning when a task blocks the event loop: until its step ends, no stream is served.

The watchdog is a Trio instrument, called before and after each step of each task. That costs two short calls
a step; a broadcast has one step for every hundred writes.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import final

import trio

from .._logger import get_logger

logger = get_logger("trio_sse.process")


@final
class Watchdog(trio.abc.Instrument):
    """Logs a warning with the task's name for each step that takes longer than `limit` seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._began_at = perf_counter()

    def begin(self) -> None:
        """Start measuring. Call this when adding the instrument, which misses the start of that step."""
        self._began_at = perf_counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_at = perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        seconds = perf_counter() - self._began_at
        if seconds > self._limit:
            logger.warning(
                "task %s blocked the event loop for %.1f s, and all streams waited: %s",
                task.name,
                seconds,
                _remedy(),
            )


def _remedy() -> str:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 2 * cores:
        return f"this machine of {cores} cores is overloaded (load average {load:.0f})"
    return "use trio.to_thread.run_sync"
