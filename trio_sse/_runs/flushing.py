"""The task that makes what runs have added a part of their content, and writes it to their viewers.

What a run adds after a pause is flushed at once. What follows is flushed when some time has passed since the
last flush, and all of it together. So a run that is slow shows each piece without a delay, and one that is
fast costs so many flushes a second, however many pieces it has. While the node cannot keep up, that time
grows (see `pace`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import final

import trio

from .._containment import contained
from .pace import FlushPace
from .record import RunRecord

# Flushes that are due in the same moment are made together: to wake the task costs as much as some flushes.
_MOMENT_SECONDS = 0.004
_STORED_MOMENT_SECONDS = 0.01  # a call to a store costs more
_WRITES_PER_CHECKPOINT = 100

#: Stores what records have pending; returns those for which that was done.
Commit = Callable[[Sequence[RunRecord]], Awaitable[Sequence[RunRecord]]]


@final
class RunFlusher:
    """Flushes runs when they are due, in one task.

    Args:
        interval: how many seconds a run's flushes are apart, at least.
        on_end: called when a run's end has become a part of its content, and was written to its viewers;
            perhaps more than once.

    Attributes:
        commit: stores what runs have added before it is flushed, if nodes share a store.
    """

    commit: Commit | None = None

    def __init__(self, interval: float, on_end: Callable[[RunRecord], None]) -> None:
        self._pace = FlushPace(interval)
        self._on_end = on_end
        self._waiting: list[tuple[float, int, RunRecord]] = []  # a heap, by time
        self._numbers = count()
        self._changed = trio.lowlevel.ParkingLot()
        self._stored_at = -math.inf  # when the last call to a store has returned

    @property
    def interval(self) -> float:
        """How many seconds a run's flushes are apart at this moment."""
        return self._pace.interval

    def schedule(self, record: RunRecord, *, now: bool = False) -> None:
        """Flush a run when it is due; `now` makes it due at once."""
        if record.is_scheduled and not now:
            return
        record.is_scheduled = True
        current = trio.current_time()
        due = current if now else max(current, record.flushed_at + self._pace.interval)
        if due > current:
            moment = _MOMENT_SECONDS if self.commit is None else _STORED_MOMENT_SECONDS
            due = math.ceil(due / moment) * moment
        heapq.heappush(self._waiting, (due, next(self._numbers), record))
        if self._waiting[0][2] is record:
            self._changed.unpark_all()

    async def run(self) -> None:
        """Flush runs until cancelled. What is left then is for `finish`."""
        while True:
            due = self._take_due()
            if due:
                await self._flush(due)
                await trio.lowlevel.checkpoint()
            else:
                with trio.move_on_at(self._waiting[0][0] if self._waiting else math.inf):
                    await self._changed.park()

    def _take_due(self) -> list[RunRecord]:
        now = trio.current_time()
        due: dict[RunRecord, None] = {}
        if self._waiting and self._waiting[0][0] <= now:
            self._pace.note(now - max(self._waiting[0][0], self._stored_at), now)
        while self._waiting and self._waiting[0][0] <= now:
            record = heapq.heappop(self._waiting)[2]
            if record.is_scheduled:
                record.is_scheduled = False
                due[record] = None
        return list(due)

    async def _flush(self, records: Sequence[RunRecord]) -> None:
        writes = 0
        if self.commit is not None:
            records = await self.commit(records)
            self._stored_at = trio.current_time()
        for record in records:
            self.apply(record)
            await record.viewers.deliver()
            if record.is_over:
                self._note_end(record)
            writes += 1 + len(record.viewers)
            if writes >= _WRITES_PER_CHECKPOINT:
                writes = 0
                await trio.lowlevel.checkpoint()

    def apply(self, record: RunRecord) -> None:
        """Make what a run has added a part of its content; there is no checkpoint."""
        record.flushed_at = trio.current_time()
        record.apply_pending()

    def _note_end(self, record: RunRecord) -> None:
        with contained("ending a run failed"):
            self._on_end(record)

    def finish(self, records: Sequence[RunRecord]) -> None:
        """Flush what these records have left, without a checkpoint: `run` was cancelled.

        They are all whose end was not noted, so also those that were being written.
        """
        self._waiting.clear()
        for record in records:
            record.is_scheduled = False
            self.apply(record)
            record.viewers.deliver_nowait()
            if record.is_over:
                self._note_end(record)
