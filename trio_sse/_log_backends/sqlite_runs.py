"""Runs in an SQLite file: the part of a session that implements `RunSession`.

A text is kept in rows of some KiB, of which the last one grows.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from .._shared_log.run_session import (
    HeldRuns,
    NewRun,
    Outcome,
    Refusal,
    RunBounds,
    RunChanges,
    RunQuery,
    StoredRun,
    TakenOver,
    TextPiece,
    decode_starts,
    encode_starts,
)
from .readable_runs import run_or_none
from .run_rules import LONGEST_SECONDS, WATCHED_SECONDS, key_digest
from .sqlite_run_tables import clock, drop_old, finish, has_old, holders_without_lease, renew
from .sqlite_run_take_over import SQLiteTakeOver

T = TypeVar("T")

_ROW_SIZE = 4096
_COLUMNS = (
    "id, owner, key, created_at, holder, attempt, number, size, state_version, ending,"
    " (select count(*) from run_events where run = id), starts"
)


class SQLiteRuns:
    """What stores runs; the subclass has the connection, its thread and its transactions."""

    _connection: sqlite3.Connection

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        raise NotImplementedError

    def _transaction(self, kind: str = "immediate") -> AbstractContextManager[None]:
        """Return a transaction that translates errors."""
        raise NotImplementedError

    async def create_run(self, holder: str, seconds: float, run: NewRun, bounds: RunBounds) -> str | Refusal:
        """See `RunSession`."""
        return await self._in_thread(self._create_run, holder, seconds, run, bounds)

    def _create_run(self, holder: str, seconds: float, run: NewRun, bounds: RunBounds) -> str | Refusal:
        execute = self._connection.execute
        digest = None if run.key is None else key_digest(run.owner, run.key)
        now = time.time()
        with self._transaction():
            drop_old(self._connection, now)
            known = execute("select id from runs where id = ? or digest = ?", (run.id, digest)).fetchone()
            if known is not None:
                return str(known[0])
            going = "select count(*) from runs where ending is null"
            if bounds.max_runs is not None and execute(going).fetchone()[0] >= bounds.max_runs:
                return Refusal.RUNS
            most = bounds.max_runs_per_owner
            of_owner = f"{going} and owner = ?"
            if most is not None and execute(of_owner, (run.owner,)).fetchone()[0] >= most:
                return Refusal.RUNS_OF_OWNER
            execute(
                "insert into runs (id, owner, key, digest, created_at, until, ttl, holder,"
                " function, arguments, attempts, starts) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(run.id, run.owner, run.key, digest, run.created_at),
                    *(now + min(run.seconds, LONGEST_SECONDS), min(run.ttl, LONGEST_SECONDS), holder),
                    *(run.function, run.arguments, run.attempts, encode_starts(run.starts)),
                ),
            )
            renew(self._connection, holder, seconds)
        return run.id

    async def commit_runs(
        self, holder: str, seconds: float, changes: Sequence[RunChanges]
    ) -> Sequence[Outcome]:
        """See `RunSession`."""
        return await self._in_thread(self._commit_runs, holder, seconds, changes)

    def _commit_runs(self, holder: str, seconds: float, changes: Sequence[RunChanges]) -> list[Outcome]:
        with self._transaction():
            renew(self._connection, holder, seconds)
            return [self._commit(holder, item) for item in changes]

    def _commit(self, holder: str, item: RunChanges) -> Outcome:
        execute = self._connection.execute
        run = execute(
            "select holder, attempt, number, ending, watched_until from runs where id = ?", (item.id,)
        ).fetchone()
        if run is None:
            return Outcome.MISSING
        is_mine = (run[0], run[1]) == (holder, item.attempt)
        is_repeated = (run[1], run[2]) == (item.attempt, item.number)
        if run[3] is not None:
            return Outcome.STORED if is_repeated and run[3] == item.end else Outcome.LOST
        if is_repeated and (is_mine or (item.is_released and run[0] == "")):
            return Outcome.STORED  # by an earlier call, whose reply was lost
        if not is_mine:
            return Outcome.LOST
        if run[2] != item.follows:
            return Outcome.BEHIND
        for piece in item.pieces:
            self._append_piece(item.id, piece)
        if item.events:
            (count,) = execute("select count(*) from run_events where run = ?", (item.id,)).fetchone()
            rows = [(item.id, count + index, record) for index, record in enumerate(item.events)]
            self._connection.executemany("insert into run_events values (?, ?, ?)", rows)
        execute("update runs set number = ?, size = ? where id = ?", (item.number, item.size, item.id))
        if item.state is not None:
            execute("update runs set state_version = ?, state = ? where id = ?", (*item.state, item.id))
        if item.checkpoint is not None:
            execute("update runs set checkpoint = ? where id = ?", (item.checkpoint, item.id))
        if item.end is not None:
            finish(self._connection, item.id, item.end)
        elif item.is_released:
            uncounted = 0 if item.has_failed else 1
            execute("update runs set holder = '', attempts = attempts + ? where id = ?", (uncounted, item.id))
        return Outcome.WATCHED if clock() < run[4] <= clock() + WATCHED_SECONDS else Outcome.STORED

    def _append_piece(self, id: str, piece: TextPiece) -> None:
        execute = self._connection.execute
        text = (id, piece.number)
        found = execute("select length from run_texts where run = ? and number = ?", text).fetchone()
        if found is None:
            execute("insert into run_texts values (?, ?, ?, 0)", (*text, piece.name))
        length = 0 if found is None else found[0]
        last = execute(
            "select begin from run_pieces where run = ? and text = ? order by begin desc limit 1", text
        ).fetchone()
        if last is not None and length + len(piece.piece) - last[0] <= _ROW_SIZE:
            execute(
                "update run_pieces set piece = cast(piece || ? as blob)"
                " where run = ? and text = ? and begin = ?",
                (piece.piece, *text, last[0]),
            )
        else:
            execute("insert into run_pieces values (?, ?, ?, ?)", (*text, length, piece.piece))
        grown = (length + len(piece.piece), *text)
        execute("update run_texts set length = ? where run = ? and number = ?", grown)

    async def hold_runs(self, holder: str, seconds: float) -> HeldRuns:
        """See `RunSession`."""
        return await self._in_thread(self._hold_runs, holder, seconds)

    def _hold_runs(self, holder: str, seconds: float) -> HeldRuns:
        with self._transaction():
            renew(self._connection, holder, seconds)
            rows = self._connection.execute(
                "select id, cancel, watched_until from runs where holder = ? and ending is null", (holder,)
            ).fetchall()
        return HeldRuns(
            [id for id, _, _ in rows],
            {id: reason for id, reason, _ in rows if reason is not None},
            [id for id, _, until in rows if clock() < until <= clock() + WATCHED_SECONDS],
        )

    async def read_runs(self, holder: str, queries: Sequence[RunQuery]) -> Sequence[StoredRun | None]:
        """See `RunSession`."""
        return await self._in_thread(self._read_runs, holder, queries)

    def _read_runs(self, holder: str, queries: Sequence[RunQuery]) -> list[StoredRun | None]:
        watched = [(clock() + WATCHED_SECONDS, query.id, holder) for query in queries if query.is_watched]
        if watched:
            late = clock() + WATCHED_SECONDS / 2
            with self._transaction("deferred"):  # a viewer that asks often writes seldom
                due = [row for row in watched if self._is_noted_until(row[1]) < late]
            if due:
                with self._transaction():
                    self._connection.executemany(
                        "update runs set watched_until = ? where id = ? and holder != ? and ending is null",
                        due,
                    )
        with self._transaction("deferred"):
            return [run_or_none(query.id, self._read_run, query) for query in queries]

    def _is_noted_until(self, id: str) -> float:
        found = self._connection.execute("select watched_until from runs where id = ?", (id,)).fetchone()
        return float("inf") if found is None else float(found[0])

    def _read_run(self, query: RunQuery) -> StoredRun | None:
        execute = self._connection.execute
        found = execute(
            f"select {_COLUMNS} from runs where id = ? and until > ?", (query.id, time.time())
        ).fetchone()
        if found is None:
            return None
        run = self._describe(found)
        if query.lengths is None:
            return run
        pieces = []
        for number in range(len(run.lengths)):
            known = query.lengths[number] if number < len(query.lengths) else 0
            rows = execute(
                "select begin, piece from run_pieces where run = ? and text = ? and begin + length(piece) > ?"
                " order by begin",
                (query.id, number, known),
            )
            pieces.append(b"".join([piece[max(0, known - begin) :] for begin, piece in rows]))
        events = execute(
            "select record from run_events where run = ? and number >= ? order by number",
            (query.id, query.events),
        ).fetchall()
        state = None
        if run.state_version != query.state:
            (state,) = execute("select state from runs where id = ?", (query.id,)).fetchone()
        return run._replace(pieces=pieces, events=[record for (record,) in events], state=state)

    def _describe(self, row: Sequence[Any]) -> StoredRun:
        id, owner, key, created_at, holder, attempt, number, size, version, ending, events, starts = row
        texts = self._connection.execute(
            "select name, length from run_texts where run = ? order by number", (id,)
        ).fetchall()
        return StoredRun(
            *(id, owner, key, created_at, holder != "", attempt, number, size),
            *([length for _, length in texts], events, version, ending),
            names=[name for name, _ in texts],
            starts=decode_starts(starts),
        )

    async def list_runs(self, owner: str | None, limit: int) -> Sequence[StoredRun]:
        """See `RunSession`."""
        return await self._in_thread(self._list_runs, owner, limit)

    def _list_runs(self, owner: str | None, limit: int) -> list[StoredRun]:
        of_owner, owners = ("", ()) if owner is None else (" and owner = ?", (owner,))
        with self._transaction("deferred"):
            rows = self._connection.execute(
                f"select {_COLUMNS} from runs where until > ?{of_owner} order by until desc limit ?",
                (time.time(), *owners, limit),
            ).fetchall()
            runs = [run_or_none(str(row[0]), self._describe, row) for row in rows]
        return [run for run in runs if run is not None]

    async def cancel_run(self, id: str, reason: str, end: str) -> bool:
        """See `RunSession`."""
        return await self._in_thread(self._cancel_run, id, reason, end)

    def _cancel_run(self, id: str, reason: str, end: str) -> bool:
        with self._transaction():
            execute = self._connection.execute
            run = execute(
                "select holder, ending from runs where id = ? and until > ?", (id, time.time())
            ).fetchone()
            if run is not None and run[1] is None:
                if run[0] == "":
                    finish(self._connection, id, end)
                else:
                    execute("update runs set cancel = ?, cancel_end = ? where id = ?", (reason, end, id))
        return run is not None

    async def take_over_runs(
        self,
        holder: str,
        seconds: float,
        functions: Collection[str],
        end: str,
        limit: int,
        *,
        released_only: bool = False,
    ) -> TakenOver:
        """See `RunSession`."""
        arguments = (holder, seconds, functions, end, limit, released_only)
        return await self._in_thread(self._take_over_runs, *arguments)

    def _take_over_runs(
        self,
        holder: str,
        seconds: float,
        functions: Collection[str],
        end: str,
        limit: int,
        released_only: bool,
    ) -> TakenOver:
        with self._transaction("deferred"):
            is_due = has_old(self._connection, time.time()) or holders_without_lease(self._connection, holder)
        if not is_due:
            return TakenOver([], [], [])
        take_over = SQLiteTakeOver(self._connection, holder, functions, end, limit)
        with self._transaction():
            drop_old(self._connection, time.time())
            for other in holders_without_lease(self._connection, holder):
                if other == "" or not released_only:
                    take_over.take(other)
            if take_over.claimed:
                renew(self._connection, holder, seconds)
        return TakenOver(take_over.lost, take_over.claimed, take_over.cancelled)

    async def forget_run(self, holder: str, id: str) -> None:
        """See `RunSession`."""
        await self._in_thread(self._forget_run, holder, id)

    def _forget_run(self, holder: str, id: str) -> None:
        with self._transaction():
            self._connection.execute(
                "delete from runs where id = ? and holder = ? and number = 0 and ending is null", (id, holder)
            )
