"""A warning when a task blocks the event loop: until its step ends, no stream is served.

The watchdog is a Trio instrument, called before each step of each task, and at the end of each turn of the
event loop. A step ends where the next one begins, or the turn ends: a call after each step, and one at the
beginning of each turn, would double what this costs. A thread looks twice in the time of a step that is too
long, and sees in which line it is.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from time import perf_counter
from typing import final

import trio

from .._logger import get_logger
from .code_place import place_in
from .loop_monitor import LoopMonitor

logger = get_logger("trio_sse.process")


@final
class Watchdog(trio.abc.Instrument):
    """Logs a warning with the task's name, and where it was, for each step longer than `limit` seconds.

    Attributes:
        monitor: counts the turns of the event loop.
    """

    def __init__(self, limit: float) -> None:
        self.monitor = LoopMonitor()
        self._limit = limit
        self._began_at = math.inf  # of the present step
        self._task: trio.lowlevel.Task | None = None  # the one whose step it is, or was in this turn
        self._turn_began_at = math.inf
        self._seen: tuple[float, str] = (math.inf, "")  # the beginning of a step, and where it was
        self._ended: threading.Event | None = None

    def begin(self) -> None:
        """Start measuring. Call this when adding the instrument, which misses the start of that step."""
        self._began_at = self._turn_began_at = perf_counter()
        self._task = trio.lowlevel.current_task()
        if self._limit <= threading.TIMEOUT_MAX:
            self._ended = threading.Event()
            watched = (threading.get_ident(), self._ended)
            threading.Thread(target=self._watch, args=watched, name="trio_sse watchdog", daemon=True).start()

    def end(self) -> None:
        """Stop measuring. Call this when removing the instrument."""
        if self._ended is not None:
            self._ended.set()
        self._task = None

    @property
    def loop_seconds(self) -> float:
        """How many seconds all turns have taken until now, this one included."""
        unfinished = 0.0 if self._task is None else perf_counter() - self._turn_began_at
        return self.monitor.turns.sum + unfinished

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        now = perf_counter()
        if self._task is None:
            self._turn_began_at = now
        elif now - self._began_at > self._limit:
            self._report(self._task, now)
        self._began_at = now
        self._task = task

    def before_io_wait(self, timeout: float) -> None:
        task = self._task
        if task is None:
            return
        now = perf_counter()
        if now - self._began_at > self._limit:
            self._report(task, now)
        self._began_at = math.inf
        self._task = None
        self.monitor.add(now - self._turn_began_at, now)

    def _report(self, task: trio.lowlevel.Task, now: float) -> None:
        logger.warning(
            "task %s blocked the event loop for %.1f s%s, and all streams waited: %s",
            task.name,
            now - self._began_at,
            self._seen[1] if self._seen[0] == self._began_at else "",
            _remedy(),
        )

    def _watch(self, thread: int, ended: threading.Event) -> None:
        """See where the event loop's thread is when a step takes too long."""
        while not ended.wait(self._limit / 2):
            began_at = self._began_at
            if began_at != self._seen[0] and perf_counter() - began_at > self._limit:
                frames = sys._current_frames()  # documented, in spite of its name
                self._seen = (began_at, place_in(frames.get(thread)))


def _remedy() -> str:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    remedy = "use trio.to_thread.run_sync"
    if load > 2 * cores:  # then it may have been no task's fault
        return f"{remedy}, unless this machine of {cores} cores is overloaded (load average {load:.0f})"
    return remedy
