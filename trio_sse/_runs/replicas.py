"""Runs of other nodes: what a node reads of them while it shows them.

A run is read again when its node says that it has changed, soon after it has changed, and now and then. So
a run that goes on adding need not be announced each time: announcements are entries of the log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import final

import trio

from .._logger import get_logger
from .._shared_log.protocol import LogUnavailable
from .._shared_log.run_session import RunQuery
from .errors import RunGone
from .lease import NodeLease
from .record import RunRecord
from .status import RunEnd, RunStatus
from .store import RunStore
from .stored import apply_stored, content_of, is_void, query_of
from .stored_values import log_unreadable

logger = get_logger("trio_sse.runs")

# After so many seconds a run is read again: at first if it has changed, and doubled as long as it does not.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_LONGEST_UNWATCHED_PAUSE = 0.2  # its node does not say that it has changed

# A run that is not in the store for so long is not kept any more, unless its node may store it again.
_GONE_SECONDS = 15.0

_MOST_READ_AT_ONCE = 100

#: After an outage of the store, for so many leases a run that is not in it may be stored again.
PUT_BACK_LEASES = 1.5


@final
class RunReplicas:
    """The runs of other nodes that are shown here, or waited for.

    Args:
        on_join: called with the id of a run that is shown here from now on, and not only waited for.
    """

    def __init__(self, store: RunStore, lease: NodeLease, on_join: Callable[[str], None]) -> None:
        self._store = store
        self._holder = lease.holder
        self._put_back_seconds = PUT_BACK_LEASES * lease.seconds
        self._on_join = on_join
        self._records: dict[str, list[RunRecord]] = {}  # two, if a run was this node's own in between
        self._missing_since: dict[RunRecord, float] = {}
        self._changed: dict[str, None] = {}
        self._pauses: dict[str, float] = {}  # before each is read again
        self._due: dict[str, float] = {}  # when that is, in Trio's time
        self._must_read = trio.lowlevel.ParkingLot()

    def find(self, id: str) -> RunRecord | None:
        """Return a run that is shown here."""
        return next(iter(self._records.get(id, ())), None)

    async def load(self, id: str) -> RunRecord | None:
        """Return a run, if it is kept; raises `LogUnavailable`."""
        (stored,) = await self._store.call(
            lambda session: session.read_runs(self._holder, [RunQuery(id, ())])
        )
        if (known := self.find(id)) is not None:
            return known
        if stored is None:
            return None
        try:
            content = content_of(stored)
        except ValueError as error:
            log_unreadable(id, error)
            raise RunGone from None
        record = RunRecord(content, owner=stored.owner, key=stored.key, on_watch=self._on_watch)
        if not record.is_over:
            self.adopt(record)
        return record

    def _on_watch(self, record: RunRecord) -> None:
        if len(record.viewers) == 1 and not record.is_over:  # perhaps the first one
            self._on_join(record.content.id)
            self.note_changed([record.content.id])  # the store then notes that it is watched

    def adopt(self, record: RunRecord) -> None:
        """Show a run from the store, which may have been this node's own."""
        self._records.setdefault(record.content.id, []).append(record)
        self.note_changed([record.content.id])

    def drop_unused(self, record: RunRecord) -> None:
        """Forget a run that nobody looks at."""
        records = self._records.get(record.content.id, [])
        if not record.users and record in records:
            records.remove(record)
            self._missing_since.pop(record, None)
            if not records:
                del self._records[record.content.id]
                self._due.pop(record.content.id, None)
                self._pauses.pop(record.content.id, None)

    def note_changed(self, ids: Iterable[str]) -> None:
        """Read runs soon: they have changed."""
        for id in ids:
            if id in self._records:
                self._changed[id] = None
        if self._changed:
            self._must_read.unpark_all()

    def note_all_changed(self) -> None:
        """Read all runs soon: what other nodes have said may be lost."""
        self.note_changed(list(self._records))

    async def run(self) -> None:
        """Read runs when they have changed, until cancelled."""
        while True:
            with trio.move_on_at(min(self._due.values(), default=math.inf)):
                while not self._changed:
                    await self._must_read.park()
            now = trio.current_time()
            self.note_changed([id for id, due in self._due.items() if due <= now])
            ids = list(self._changed)[:_MOST_READ_AT_ONCE]
            for id in ids:
                del self._changed[id]
                if id in self._records:
                    self._wait(id, has_changed=False)
            found = [record for id in ids for record in self._records.get(id, ())]
            records = [record for record in found if not record.is_over]
            if records:
                await self._read(records)

    async def _read(self, records: list[RunRecord]) -> None:
        queries = [query_of(record.content, is_watched=len(record.viewers) > 0) for record in records]
        try:
            found = await self._store.call(lambda session: session.read_runs(self._holder, queries))
        except LogUnavailable:
            return  # the next poll reads them
        for record, stored in zip(records, found, strict=True):
            if record not in self._records.get(record.content.id, ()):
                continue  # nobody looks at it any more
            if stored is not None:
                self._missing_since.pop(record, None)
                head = record.content.head
                try:
                    if is_void(record.content, stored):
                        await self._read_anew(record)
                    else:
                        apply_stored(record.content, stored)
                except ValueError as error:
                    log_unreadable(record.content.id, error)
                    record.content.finish(RunEnd(RunStatus.LOST, "it cannot be read", None, time.time()))
                if head != record.content.head:
                    self._wait(record.content.id, has_changed=True)
            elif self._is_gone(record):
                record.content.finish(RunEnd(RunStatus.LOST, "it is no longer kept", None, time.time()))
            record.wake()
            await record.viewers.deliver()

    async def _read_anew(self, record: RunRecord) -> None:
        """Replace a content that is void; what has it begins anew."""
        query = RunQuery(record.content.id, ())
        with suppress(LogUnavailable):
            (stored,) = await self._store.call(lambda session: session.read_runs(self._holder, [query]))
            if stored is not None:
                logger.warning("the run %s has lost what was shown of it", record.content.id[:8])
                record.clear()
                apply_stored(record.content, stored)

    def _wait(self, id: str, *, has_changed: bool) -> None:
        """Set when a run is read again."""
        before = self._pauses.get(id, _FIRST_PAUSE)
        is_watched = any(len(record.viewers) for record in self._records.get(id, ()))
        longest = _LONGEST_PAUSE if is_watched else _LONGEST_UNWATCHED_PAUSE
        pause = self._pauses[id] = _FIRST_PAUSE if has_changed else min(2 * before, longest)
        self._due[id] = trio.current_time() + pause

    def _is_gone(self, record: RunRecord) -> bool:
        since = self._missing_since.setdefault(record, trio.current_time())
        now = trio.current_time()
        return now > since + _GONE_SECONDS and now > self._store.outage_at + self._put_back_seconds
