"""The task that flushes groups of throttled subscriptions when they are due.

Each group costs the same, however many there are. Those that wait for their time are in a heap, each at most
once; those that may be flushed now are in a queue. If a group was flushed early, that is found when its entry
in the heap comes up.

The invariant: a flush never sees a part of a batch. `FlushScheduler.lock` ensures it. All groups that are
ready are flushed before the pump delivers the next batch. So groups that are due together stay together and
share their encodings, and a group keeps what its throttle allows and one batch more, at most.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import final

import trio

from .._subscription.kept_events import SharedPages
from .pacing import ThrottledGroup

_WRITES_PER_CHECKPOINT = 100
_BYTES_PER_CHECKPOINT = 512 * 1024


@final
class FlushScheduler:
    """Flushes groups when they are due, in one task.

    Attributes:
        lock: held while groups are flushed, and, as long as there are groups, by the pump while it delivers a
            batch.
        groups: how many there are.
        deliveries: events delivered to members, less those delivered to groups, which the pump has counted.
    """

    def __init__(self) -> None:
        self.lock = trio.StrictFIFOLock()
        self.groups = 0
        self.deliveries = 0
        self._waiting: list[tuple[float, int, ThrottledGroup]] = []  # a heap, by time
        self._numbers = count()
        self._left = 0  # groups in it that have no members
        self._ready: deque[ThrottledGroup] = deque()
        self._shared = SharedPages()
        self._under_way: Iterator[int] = iter(())
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, group: ThrottledGroup) -> None:
        """Flush a group when it is due."""
        if not group.is_scheduled:
            self._push(group)
            if self._waiting[0][2] is group:
                self._changed.unpark_all()

    def hurry(self, group: ThrottledGroup) -> None:
        """Flush a group as soon as possible."""
        if not group.is_ready:
            group.is_ready = True
            self._ready.append(group)
            self._changed.unpark_all()

    def discard(self, group: ThrottledGroup) -> None:
        """Forget a group that has no members any more."""
        if group.is_scheduled:
            self._left += 1
            if self._left > 100 and self._left > len(self._waiting) // 2:
                self._left = 0
                self._waiting = [entry for entry in self._waiting if entry[2]]
                heapq.heapify(self._waiting)

    async def run(self) -> None:
        """Flush groups until cancelled."""
        while True:
            self._collect()
            if self._ready:
                async with self.lock:
                    await self._flush_ready()
            else:
                due = self._waiting[0][0] if self._waiting else float("inf")
                with trio.move_on_at(due):
                    await self._changed.park()

    async def _flush_ready(self) -> None:
        self._collect()
        share = 0.0  # what was written since the last checkpoint, of what is allowed
        while self._ready:
            self._under_way = self._flush(self._ready.popleft())
            for size in self._under_way:
                share += max(1 / _WRITES_PER_CHECKPOINT, size / _BYTES_PER_CHECKPOINT)
                if share >= 1:
                    share = 0.0
                    await trio.lowlevel.checkpoint()
        self._shared.clear()

    def _flush(self, group: ThrottledGroup) -> Iterator[int]:
        group.is_ready = False
        return group.flush(trio.current_time(), self._shared)

    def complete(self) -> None:
        """Flush the rest of the group that was being flushed when `run` was cancelled."""
        for _ in self._under_way:
            pass

    def finish(self) -> None:
        """Flush everything that waits, without a checkpoint: `run` was cancelled, or the log has a gap."""
        self.complete()
        waiting, self._waiting, self._left = self._waiting, [], 0
        ready, self._ready = self._ready, deque()
        for _, _, group in waiting:
            group.is_scheduled = False
        for group in (*ready, *(group for _, _, group in sorted(waiting))):
            for _ in self._flush(group):
                pass
        self._shared.clear()

    def _push(self, group: ThrottledGroup) -> None:
        group.is_scheduled = True
        heapq.heappush(self._waiting, (group.due, next(self._numbers), group))

    def _collect(self) -> None:
        """Make the groups ready whose time has come."""
        now = trio.current_time()
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            _, _, group = heapq.heappop(waiting)
            group.is_scheduled = False
            if not group:
                self._left = max(self._left - 1, 0)
            elif group.waiting_events and not group.is_ready:
                if group.due > now:  # it was flushed early, and has kept something since
                    self._push(group)
                else:
                    group.is_ready = True
                    self._ready.append(group)
