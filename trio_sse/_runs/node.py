"""A node's part in the runs that nodes share: it runs some, and shows all.

The store is the truth. What a run adds is stored before anybody sees it, so no client ever has more than the
store; and an end that is stored is the only one.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, final

import trio

from .._hub.signals import Signals
from .._logger import get_logger
from .._shared_log.protocol import Log
from .._shared_log.run_session import ClaimedRun, NewRun, Refusal, RunBounds, RunQuery, StoredRun
from .committing import RunCommitter
from .errors import RunGone
from .flushing import RunFlusher
from .keeping import RunKeeper
from .lease import NodeLease
from .position import Position, parse_position
from .record import RunRecord
from .replicas import PUT_BACK_LEASES, RunReplicas
from .signals import NAME, RunSignals, read_signal
from .status import RunEnd, RunInfo, RunStatus
from .store import RunStore, RunStoreUnavailable
from .stored import encode_end, info_of
from .stored_values import log_unreadable
from .table import RunTable, owner_limit, runs_limit
from .taking_over import RunTakeOver
from .writing import Release

logger = get_logger("trio_sse.runs")

T = TypeVar("T")

_MOST_LISTED = 1000

# For how long a client that has more of a run than its node waits for that.
_CATCH_UP_SECONDS = 5.0

# How often to look whether a run was stored again.
_PUT_BACK_SECONDS = 0.2


@final
class RunNode:
    """What a `Runs` needs where its hub has a shared log.

    Args:
        lease: for how many seconds the node holds its runs each time.
        functions: the names of the functions that it can resume.
        resume: starts a task for a run that this node has claimed.
        tells_watching: other nodes need to know at once that somebody watches here.
    """

    def __init__(
        self,
        log: Log,
        signals: Signals,
        table: RunTable,
        flusher: RunFlusher,
        *,
        lease: float,
        functions: Collection[str],
        resume: Callable[[ClaimedRun], None],
        tells_watching: bool,
    ) -> None:
        self.busy: set[str] = set()  # runs that are being started, run or ended
        self.timeout = log.publish_timeout
        self.store = RunStore(log)
        self._lease = NodeLease(lease)
        self._hub_signals = signals
        self._table = table
        self._flusher = flusher
        self._tells_watching = tells_watching
        self._signals = RunSignals(signals)
        self._replicas = RunReplicas(self.store, self._lease, self._on_join)
        self._keeper = RunKeeper(
            *(self.store, self._lease, table, flusher, self.busy), on_release=self._signals.released
        )
        self._taking_over = RunTakeOver(
            *(self.store, self._lease, self._signals),
            functions=functions,
            resume=resume,
            on_doubt=self._keeper.look,
        )
        self._committer = RunCommitter(
            self.store, self._lease, on_watched=self._on_watched, on_lost=self._on_lost
        )

    # Its life

    async def run(self) -> None:
        """Do what the node has to do until cancelled."""
        self._flusher.commit = self._commit
        forget = self._hub_signals.listen(
            NAME, lambda text: read_signal(text, self), self._replicas.note_all_changed
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keeper.run)
                nursery.start_soon(self._taking_over.run)
                nursery.start_soon(self._replicas.run)
                nursery.start_soon(self._signals.run)
        finally:
            forget()

    async def leave(self) -> None:
        """Store what the runs of this node have left, and end its lease; `run` was cancelled."""
        records = list(self._table.going_on)
        while pending := [record for record in records if record.pending and not record.is_lost]:
            for record in await self._commit(pending):
                self._flusher.finish([record])
        lease = self._lease
        if lease.was_held:
            await self.store.call(lambda session: session.hold_runs(lease.holder, 0))

    # Runs of this node

    async def begin(self, new: NewRun, bounds: RunBounds) -> str:
        """Store a run that this node is to run, however long that takes.

        Return its id, or that of the run that has its key.

        Raises:
            RunLimitReached: it was not stored.
        """
        lease = self._lease
        asked_at = lease.now()
        found = await self.store.call(
            lambda session: session.create_run(lease.holder, lease.seconds, new, bounds), seconds=math.inf
        )
        lease.renewed(asked_at)
        if found is Refusal.RUNS:
            raise runs_limit(bounds.max_runs or 0)
        if found is Refusal.RUNS_OF_OWNER:
            raise owner_limit(bounds.max_runs_per_owner or 0)
        assert isinstance(found, str)
        return found

    async def read(self, id: str) -> StoredRun | None:
        """Return a run from its start."""
        return await self._read(RunQuery(id, ()))

    async def forget(self, id: str) -> None:
        """Remove a run that has not begun."""
        await self.store.call(lambda session: session.forget_run(self._lease.holder, id), seconds=math.inf)

    def give_up(self) -> None:
        """Let others have a run that was claimed, and cannot be resumed here."""
        self._keeper.look()

    async def _commit(self, records: Sequence[RunRecord]) -> list[RunRecord]:
        done = await self._committer.commit(records)
        released = [record for record in done if Release() in record.pending.held]
        for record in released:
            record.lose()
            self._flusher.schedule(record, now=True)  # when its last pieces are written
        if released:
            self._signals.released()
        self._replicas.note_changed([record.content.id for record in done])
        return done

    def _on_watched(self, records: list[RunRecord]) -> None:
        self._signals.changed(record.content.id for record in records)
        for record in records:
            self._keeper.note_watched(record.content.id)

    def _on_lost(self, record: RunRecord) -> None:
        """Show a run from the store from now on: another node has it, or its end."""
        if not record.is_lost:
            logger.warning("the run %s was taken over by another node", record.content.id[:8])
            record.lose()
        if record in self._table.going_on:
            self._table.discard(record)
            if record.users:
                self._replicas.adopt(record)

    # Runs of any node

    @asynccontextmanager
    async def joined(self, id: str, cursor: str | None) -> AsyncIterator[RunRecord]:
        """Return a run of any node; entering this raises `RunGone` or `LogUnavailable`."""
        await trio.lowlevel.checkpoint()
        record = await self._find(id)
        if cursor is not None and (position := parse_position(id, cursor)) is not None:
            record = await self._caught_up(record, position)
        record.users += 1
        try:
            yield record
        finally:
            record.users -= 1
            self._replicas.drop_unused(record)

    async def _find(self, id: str) -> RunRecord:
        found = self._table.find(id) or self._replicas.find(id)
        return await self._kept(lambda: self._replicas.load(id)) if found is None else found

    async def _kept(self, read: Callable[[], Awaitable[T | None]]) -> T:
        """Return what is read of a run; if the store may have lost it, wait until it is stored again.

        Raises:
            RunGone: it is not kept.
            LogUnavailable: it may be stored again later.
        """
        give_up_at = trio.current_time() + self.timeout
        while (found := await read()) is None:
            now = trio.current_time()
            if now >= self.store.outage_at + PUT_BACK_LEASES * self._lease.seconds:
                raise RunGone
            if now >= give_up_at:
                raise RunStoreUnavailable("it may have lost the run, which may be stored again")
            await trio.sleep(_PUT_BACK_SECONDS)
        return found

    async def _caught_up(self, record: RunRecord, position: Position) -> RunRecord:
        """Return a run when this node has read as much of it as a client has from another node.

        A client may also have what the store has lost. So this waits only for a moment.
        """
        id = record.content.id
        with trio.move_on_after(_CATCH_UP_SECONDS):
            while record.content.lacks(position):
                self._replicas.note_changed([id])
                if record.holding is not None:  # another node may have it meanwhile
                    record.held.is_doubtful = True
                    self._flusher.schedule(record, now=True)
                await trio.sleep(_CATCH_UP_SECONDS / 100)
                record = await self._find(id)
        return record

    async def look_up(self, id: str) -> RunInfo:
        """Return what a run is at this moment."""
        await trio.lowlevel.checkpoint()
        if (record := self._table.find(id)) is not None:
            return record.info()
        info = self._info(await self._kept(lambda: self._read(RunQuery(id))))
        if info is None:
            raise RunGone
        return info

    async def _read(self, query: RunQuery) -> StoredRun | None:
        (stored,) = await self.store.call(lambda session: session.read_runs(self._lease.holder, [query]))
        return stored

    async def list(self, owner: str | None) -> list[RunInfo]:
        """Return all runs, or those of one owner, oldest first."""
        found = await self.store.call(lambda session: session.list_runs(owner, _MOST_LISTED))
        infos = [info for stored in found if (info := self._info(stored)) is not None]
        return sorted(infos, key=lambda info: info.created_at)

    def _info(self, stored: StoredRun) -> RunInfo | None:
        """Return what a run is; `None` if it cannot be read, which is logged."""
        if (own := self._table.find(stored.id)) is not None:
            return own.info()
        shown = self._replicas.find(stored.id)
        try:
            return info_of(stored, viewers=0 if shown is None else len(shown.viewers))
        except ValueError as error:
            log_unreadable(stored.id, error)
            return None

    async def cancel(self, id: str, reason: str) -> None:
        """Cancel a run of any node."""
        await trio.lowlevel.checkpoint()
        if (record := self._table.find(id)) is not None:
            record.cancel(reason)
            return
        end = encode_end(RunEnd(RunStatus.CANCELLED, reason, None, time.time()))

        async def ask() -> bool | None:
            return await self.store.call(lambda session: session.cancel_run(id, reason, end)) or None

        await self._kept(ask)
        self._signals.cancelled(id, reason)
        self._signals.changed([id])  # it may have ended by this

    def _on_join(self, id: str) -> None:
        if self._tells_watching:
            self._signals.watched(id)

    # Signals of other nodes

    def on_changed(self, ids: Iterable[str]) -> None:
        """Read runs again that are shown here."""
        self._replicas.note_changed(ids)

    def on_watched(self, ids: Iterable[str]) -> None:
        """Note that runs of this node are watched."""
        for id in ids:
            self._keeper.note_watched(id)

    def on_cancelled(self, reasons: Mapping[str, str]) -> None:
        """Cancel those that are this node's."""
        for id, reason in reasons.items():
            if (record := self._table.find(id)) is not None:
                record.cancel(reason)

    def on_released(self) -> None:
        """Look whether there is something to go on with."""
        self._taking_over.look()
