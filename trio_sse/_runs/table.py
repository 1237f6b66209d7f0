"""The runs that a node has: those that go on, and those that have ended and are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import trio

from .._shared_log.run_session import RunBounds
from .errors import RunLimitReached
from .record import RunRecord


@final
class RunTable:
    """Finds runs by their ids and keys, counts them, and forgets the oldest ones.

    Args:
        ttl: how many seconds a run is kept after its end.
        max_kept_bytes: how many bytes of runs that have ended are kept.
        patience: after how many seconds without viewers a run is cancelled.

    Attributes:
        going_on: the runs that have not ended.
        is_overdue: returns whether runs that begin now are cancelled at once, since the server ends.
    """

    is_overdue: Callable[[], bool] | None = None

    def __init__(self, *, ttl: float, max_kept_bytes: int, patience: float) -> None:
        self.ttl = ttl
        self.going_on: dict[RunRecord, None] = {}
        self._max_kept_bytes = max_kept_bytes
        self._patience = patience
        self._records: dict[str, RunRecord] = {}
        self._by_key: dict[tuple[str | None, str], str] = {}
        self._of_owner: dict[str, int] = {}  # how many go on
        self._kept: dict[RunRecord, float] = {}  # those that have ended, and until when; oldest first
        self._kept_bytes = 0
        self._changed = trio.lowlevel.ParkingLot()

    def find(self, id: str) -> RunRecord | None:
        """Return the run with this id."""
        return self._records.get(id)

    def find_key(self, owner: str | None, key: str) -> str | None:
        """Return the id of an owner's run with this key."""
        return self._by_key.get((owner, key))

    def all(self) -> list[RunRecord]:
        """Return all runs, oldest first."""
        return list(self._records.values())

    def check_room(self, owner: str | None, bounds: RunBounds) -> None:
        """Raise `RunLimitReached` if no other run may go on."""
        most_runs, most = bounds
        if most_runs is not None and len(self.going_on) >= most_runs:
            raise runs_limit(most_runs)
        if owner is not None and most is not None and self._of_owner.get(owner, 0) >= most:
            raise owner_limit(most)

    def add(self, record: RunRecord) -> None:
        """Add a run that goes on."""
        self._records[record.content.id] = record
        self.going_on[record] = None
        if record.key is not None:
            self._by_key[record.owner, record.key] = record.content.id
        if record.owner is not None:
            self._of_owner[record.owner] = self._of_owner.get(record.owner, 0) + 1
        self.on_watch(record)
        if self.is_overdue is not None and self.is_overdue():
            record.shut_down()

    def end(self, record: RunRecord) -> None:
        """Note that a run has ended, if that was not noted; it is kept for some time."""
        if record not in self.going_on:
            return
        self._leave(record)
        self._kept[record] = trio.current_time() + self.ttl
        self._kept_bytes += record.content.kept_size
        self._changed.unpark_all()

    def discard(self, record: RunRecord) -> None:
        """Forget a run that goes on elsewhere."""
        if record in self.going_on:
            self._leave(record)
            self._remove(record)
            self._changed.unpark_all()

    def _leave(self, record: RunRecord) -> None:
        del self.going_on[record]
        owner = record.owner
        if owner is not None:
            self._of_owner[owner] -= 1
            if not self._of_owner[owner]:
                del self._of_owner[owner]

    async def wait_idle(self) -> None:
        """Wait until no run goes on."""
        while self.going_on:
            await self._changed.park()

    def on_watch(self, record: RunRecord) -> None:
        """Begin to count the time for which nobody watches a run, or stop counting it."""
        if self._patience < math.inf:
            is_watched = len(record.viewers) > 0
            since = trio.current_time()
            if record.holding is not None:
                since = max(since, record.holding.watched_until)
            record.unwatched_at = math.inf if is_watched else since + self._patience
        record.set_deadline()

    async def forget_old_runs(self) -> None:
        """Forget runs when their time is over, or when too much is kept, until cancelled."""
        while True:
            now = trio.current_time()
            while self._kept:
                oldest = next(iter(self._kept))
                if self._kept[oldest] > now and self._kept_bytes <= self._max_kept_bytes:
                    break
                del self._kept[oldest]
                self._kept_bytes -= oldest.content.kept_size
                self._remove(oldest)
            with trio.move_on_at(next(iter(self._kept.values()), math.inf)):
                await self._changed.park()

    def _remove(self, record: RunRecord) -> None:
        id = record.content.id
        if self._records.get(id) is record:  # over a shared log, it may have been resumed here meanwhile
            del self._records[id]
        if record.key is not None and self._by_key.get((record.owner, record.key)) == id:
            del self._by_key[record.owner, record.key]


def runs_limit(most: int) -> RunLimitReached:
    """Return the error for too many runs."""
    return RunLimitReached(f"the limit of {most} runs is reached")


def owner_limit(most: int) -> RunLimitReached:
    """Return the error for too many runs of one owner."""
    return RunLimitReached(f"the limit of {most} runs of one owner is reached", 429)
