"""How long a task that is ready to run waits for other tasks."""

from __future__ import annotations

import gc
import time
from typing import Self, final

import trio


@final
class StallProbe:
    """The longest waits since the probe started, in seconds.

    The probe is always ready to run, so the time between two of its turns is how long any other task would
    have to wait. It is measured twice. Wall time is what such a task experiences. On a busy machine it
    includes the time in which another process had the core. CPU time of the process excludes that: it is the
    server's part.
    """

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._turns = 0
        self._longest_wait = 0.0
        self._longest_cpu = 0.0
        self._longest_collection = 0.0
        self._collection_start = 0.0

    @classmethod
    async def run(cls, *, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until `stop` is called on the probe, which is the value of `task_status.started`."""
        probe = cls()
        gc.callbacks.append(probe._note_collection)
        try:
            with probe._scope:
                task_status.started(probe)
                await probe._watch()
        finally:
            gc.callbacks.remove(probe._note_collection)

    def stop(self) -> None:
        """Stop watching. It may be called more than once."""
        self._scope.cancel()

    def results(self) -> dict[str, float]:
        """Return the longest waits so far."""
        return {
            "turns": self._turns,
            "longest_wait_seconds": self._longest_wait,
            "longest_cpu_seconds": self._longest_cpu,
            "longest_collection_seconds": self._longest_collection,
        }

    async def _watch(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        while True:
            await trio.lowlevel.checkpoint()
            wall_now, cpu_now = time.perf_counter(), time.process_time()
            self._longest_wait = max(self._longest_wait, wall_now - wall)
            self._longest_cpu = max(self._longest_cpu, cpu_now - cpu)
            self._turns += 1
            wall, cpu = wall_now, cpu_now

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collection_start = time.perf_counter()
        else:
            self._longest_collection = max(
                self._longest_collection, time.perf_counter() - self._collection_start
            )
