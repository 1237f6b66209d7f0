"""How long a task that is ready to run has to wait while the others work."""

from __future__ import annotations

import gc
import time
from typing import Self, final

import trio


@final
class StallProbe:
    """Longest waits since the probe began, in seconds.

    The probe is always ready to run, so what passes between two of its turns is what any other task would
    have to wait. It is measured twice. The wall clock tells what such a task sees, which on a busy machine
    includes the time in which another process had the core; the process's CPU time leaves that out and so
    tells what the server itself is to blame for.
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
        """Watch until the probe that `task_status` gives is stopped."""
        probe = cls()
        gc.callbacks.append(probe._note_collection)
        try:
            with probe._scope:
                task_status.started(probe)
                await probe._watch()
        finally:
            gc.callbacks.remove(probe._note_collection)

    def stop(self) -> None:
        """End the watch; idempotent."""
        self._scope.cancel()

    def figures(self) -> dict[str, float]:
        """Give what was seen so far."""
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
