"""Keeping the runs of a node: its lease is renewed, and what others ask of its runs is done."""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import suppress
from typing import NamedTuple, final

import trio

from .._logger import get_logger
from .._shared_log.protocol import LogUnavailable
from .._shared_log.run_session import RunChanges, RunQuery, RunSession
from .committing import create_again
from .flushing import RunFlusher
from .lease import NodeLease
from .record import RunRecord
from .store import RunStore
from .stored import restoring
from .table import RunTable

logger = get_logger("trio_sse.runs")

# How often a lease is renewed, and how often it is looked at, in parts of its time.
_RENEW = 0.25
_LOOK = 0.05

# For how long a run counts as shown elsewhere after the store has said so.
_WATCHED_SECONDS = 6.0


class StoppedRun(NamedTuple):
    """A resumable run that was stopped here, since the lease was not certain any more from some time on."""

    record: RunRecord
    lost_at: float


@final
class RunKeeper:
    """Renews the lease of a node that has runs.

    Args:
        busy: the ids of the runs that tasks of this node start, run or end.
        on_release: called when others can resume a run.
    """

    def __init__(
        self,
        store: RunStore,
        lease: NodeLease,
        table: RunTable,
        flusher: RunFlusher,
        busy: Set[str],
        *,
        on_release: Callable[[], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._table = table
        self._flusher = flusher
        self._busy = busy
        self._must_look = False  # the store may say that this node holds a run that it does not know
        self._unknown: set[str] = set()  # the runs of which it has said so
        self._on_release = on_release
        self._stopped: dict[str, StoppedRun] = {}  # until it is certain that another node can have them
        self._checked_at = store.outage_at  # up to this outage, it is known what the store has lost

    def look(self) -> None:
        """Find the runs that this node holds without knowing it."""
        self._must_look = True

    async def run(self) -> None:
        """Renew the lease while there are runs, until cancelled."""
        renewed_at = -self._lease.seconds
        while True:
            if trio.current_time() >= renewed_at + self._lease.seconds * _RENEW:
                renewed_at = trio.current_time()
                if self._table.going_on or self._must_look or self._is_doubtful:
                    await self._renew()
            self._check()
            await trio.sleep(self._lease.seconds * _LOOK)

    @property
    def _is_doubtful(self) -> bool:
        """Whether the store may have lost what this node has, since it was away."""
        return self._checked_at < self._store.outage_at and bool(self._table.all())

    def _check(self) -> None:
        """Stop what another node may begin: the lease is no longer certain."""
        if self._lease.is_certain:
            return
        for record in list(self._table.going_on):
            if record.held.is_resumable and not record.held.is_lost:
                logger.warning("the run %s is stopped here: the lease is lost", record.content.id[:8])
                self._must_look = True
                record.lose()
                self._stopped[record.content.id] = StoppedRun(record, self._lease.until)
                self._flusher.schedule(record, now=True)

    async def _renew(self) -> None:
        lease = self._lease
        asked_at, known = lease.now(), set(self._table.going_on)
        outage_at, was_away = self._store.outage_at, self._is_doubtful
        try:
            held = await self._store.call(
                lambda session: session.hold_runs(lease.holder, lease.seconds), seconds=lease.seconds
            )
        except LogUnavailable:
            return
        lease.renewed(asked_at)
        ids = set(held.ids)
        if was_away:
            self._checked_at = outage_at
            for record in self._table.all():
                if record.is_over and record.holding is not None:
                    record.held.is_doubtful = True
                    self._flusher.schedule(record, now=True)
        for record in known & self._table.going_on.keys():
            id = record.content.id
            if id in held.cancelled:
                record.cancel(held.cancelled[id])
            if id in held.watched:
                self.note_watched(id)
            if id not in ids:
                record.held.is_doubtful = True
                self._flusher.schedule(record, now=True)
        unknown = {id for id in ids if self._table.find(id) is None}
        for id in (unknown & self._unknown) - self._busy:
            await self._let_go(id)
        self._unknown = unknown
        for stopped in [stopped for id, stopped in self._stopped.items() if id not in unknown]:
            await self._settle(stopped)
        self._must_look = bool(unknown or self._stopped)

    async def _settle(self, stopped: StoppedRun) -> None:
        """Forget a run that was stopped here, if others can have it; put it back if the store has lost it."""
        content, holding = stopped.record.content, stopped.record.held
        holder, seconds = self._lease.holder, self._lease.seconds
        new = holding.new._replace(starts=content.starts)
        released = RunChanges(content.id, 1, 0, 1, content.size, is_released=True)

        async def work(session: RunSession) -> bool:
            (run,) = await session.read_runs(holder, [RunQuery(content.id)])
            if run is not None or self._lease.now() >= stopped.lost_at + new.ttl:
                return True
            if not self._store.is_settled(seconds):
                return False  # if another node goes on with it, that one stores it again first
            await create_again(session, self._lease, new)
            (run,) = await session.read_runs(holder, [RunQuery(content.id)])
            if run is not None and run.number == 0:
                await session.commit_runs(
                    holder, seconds, [restoring(content, run, released, holding.checkpoint)]
                )
                logger.warning("the run %s is stored again, for others to go on with", content.id[:8])
            return True

        with suppress(LogUnavailable):
            if self._table.find(content.id) is not None or await self._store.call(work, seconds=seconds):
                del self._stopped[content.id]
                self._on_release()

    def note_watched(self, id: str) -> None:
        """Note that other nodes show a run of this one."""
        record = self._table.find(id)
        if record is not None and record.holding is not None:
            record.holding.watched_until = trio.current_time() + _WATCHED_SECONDS
            self._table.on_watch(record)

    async def _let_go(self, id: str) -> None:
        """Let others resume a run, or remove it if it was never started."""
        holder, seconds = self._lease.holder, self._lease.seconds

        async def work(session: RunSession) -> None:
            (run,) = await session.read_runs(holder, [RunQuery(id)])
            if run is None or run.end is not None:
                return
            if run.number == 0 and run.attempt == 1 and id not in self._stopped:
                await session.forget_run(holder, id)
            else:
                released = RunChanges(id, run.attempt, run.number, run.number + 1, run.size, is_released=True)
                released = released._replace(has_failed=id not in self._stopped)
                await session.commit_runs(holder, seconds, [released])

        try:
            await self._store.call(work, seconds=seconds)
        except LogUnavailable:
            self._must_look = True
