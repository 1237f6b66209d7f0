"""Storing what runs have added, before anybody sees it.

While the store is away, this waits, and so do the runs, when they have added as much as may be pending. What
was sent is sent again unchanged, with its number: it may be stored already.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import final

from .._shared_log.run_session import NewRun, Outcome, RunBounds, RunChanges, RunQuery, RunSession, StoredRun
from .lease import NodeLease
from .record import RunRecord
from .store import RunStore
from .stored import encode_changes, restoring

# So many bytes are stored in one call.
_MOST_BYTES = 512 * 1024
_MOST_RUNS = 1000

_UNBOUNDED = RunBounds(None, None)


@final
class RunCommitter:
    """Stores the changes of runs that this node holds.

    Args:
        on_watched: called with runs that have changed, and that others show.
        on_lost: called with a run that is not this node's any more.
    """

    def __init__(
        self,
        store: RunStore,
        lease: NodeLease,
        *,
        on_watched: Callable[[list[RunRecord]], None],
        on_lost: Callable[[RunRecord], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._on_watched = on_watched
        self._on_lost = on_lost

    async def commit(self, records: Sequence[RunRecord]) -> list[RunRecord]:
        """Store what runs have pending; return those whose changes can be applied."""
        done: list[RunRecord] = []
        for record in records:
            if record.held.is_lost:
                self._on_lost(record)
        for batch in _batches(records):
            watched = []
            for record, outcome in await self._commit(batch):
                if outcome is Outcome.LOST:
                    if not record.is_over:
                        self._on_lost(record)
                    continue
                done.append(record)
                if outcome is Outcome.WATCHED:
                    watched.append(record)
            if watched:
                self._on_watched(watched)
        return done

    async def _commit(self, records: Sequence[RunRecord]) -> list[tuple[RunRecord, Outcome]]:
        changes = {record: _changes_of(record) for record in records}
        results: list[tuple[RunRecord, Outcome]] = []
        while changes:
            sent = dict(changes)
            asked_at = self._lease.now()
            outcomes = await self._store.call(
                lambda session, sent=sent: session.commit_runs(  # type: ignore[misc]
                    self._lease.holder, self._lease.seconds, list(sent.values())
                ),
                seconds=math.inf,
            )
            for (record, item), outcome in zip(sent.items(), outcomes, strict=True):
                holding = record.held
                is_missing = outcome is Outcome.MISSING
                if outcome is Outcome.BEHIND or (is_missing and self._is_lost_by_store(record)):
                    stored = await self._find(record, is_missing=is_missing)
                    if stored is not None:
                        holding.attempt = stored.attempt  # a run that was created again begins with the first
                        restored = restoring(record.content, stored, item, holding.checkpoint)
                        changes[record] = restored._replace(attempt=holding.attempt)
                        continue
                    outcome = Outcome.LOST
                elif is_missing:
                    outcome = Outcome.LOST
                del changes[record]
                holding.number = item.number
                holding.checkpoint = item.checkpoint or holding.checkpoint
                holding.is_doubtful = False
                results.append((record, outcome))
            self._lease.renewed(asked_at)
        return results

    def _is_lost_by_store(self, record: RunRecord) -> bool:
        """Whether a run that is not in the store is to be stored again."""
        end, ttl = record.content.end, record.held.new.ttl
        if end is not None:  # it is not kept for ever
            return time.time() < end.at + ttl
        return not record.is_lost and self._lease.shows_loss(ttl)

    async def _find(self, record: RunRecord, *, is_missing: bool) -> StoredRun | None:
        """Return how much of a run the store has, after it has lost some of it, or all."""
        new, lease = record.held.new._replace(starts=record.content.starts), self._lease

        if is_missing:
            await self._store.call(lambda session: create_again(session, lease, new), seconds=math.inf)
        (stored,) = await self._store.call(
            lambda session: session.read_runs(lease.holder, [RunQuery(new.id)]), seconds=math.inf
        )
        return stored


async def create_again(session: RunSession, lease: NodeLease, new: NewRun) -> None:
    """Store a run that a store has lost; without its key if another run has that meanwhile."""
    if await session.create_run(lease.holder, lease.seconds, new, _UNBOUNDED) != new.id:
        bare = new._replace(key=None)
        await session.create_run(lease.holder, lease.seconds, bare, _UNBOUNDED)


def _changes_of(record: RunRecord) -> RunChanges:
    """Return what a run has pending, or, if that is nothing, what only asks whether all is stored."""
    holding = record.held
    held = record.pending.hold()
    number = holding.number + 1 if held else holding.number
    made = encode_changes(record.content, held, attempt=holding.attempt, number=number)
    return made if held else made._replace(follows=number)


def _batches(records: Sequence[RunRecord]) -> Iterator[list[RunRecord]]:
    """Yield the runs that have something to store or to ask, in parts that are not too large."""
    batch: list[RunRecord] = []
    size = 0
    for record in records:
        if (record.pending or record.held.is_doubtful) and not record.held.is_lost:
            batch.append(record)
            size += record.pending.size
            if size > _MOST_BYTES or len(batch) >= _MOST_RUNS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
