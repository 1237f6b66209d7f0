"""A durable log in one file, for the hubs of one machine: replay survives a restart.

An id is made of an entry's time and number, and both only grow. So a log that continues from a restored
backup assigns no id twice.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar, final

import trio

from ._log.idempotency import KEY_SECONDS, MOST_SHARED_KEYS, check_key_age
from ._log_backends.sqlite_database import (
    HAS_TIME,
    begin_epoch,
    entry_id,
    open_database,
    refused_if_invalid,
    transaction,
    translated,
)
from ._log_backends.sqlite_file import DatabaseFiles
from ._log_backends.sqlite_run_tables import clock
from ._log_backends.sqlite_runs import SQLiteRuns
from ._shared_log.entry_id import parse_id
from ._shared_log.protocol import (
    Entry,
    KeyedRecord,
    LogEnd,
    LogSession,
)
from ._validate import check_bounds, check_seconds

__all__ = ["SQLiteLog"]

T = TypeVar("T")

_GREATEST = 2**63 - 1
_POLL_SECONDS = 0.05
_READ_SECONDS = 1.0
_MOST_NOTICES = 256


@final
class SQLiteLog:
    """A log in an SQLite file, for `Hub(log=...)`. Processes of one machine may share it.

    Each append is one transaction, which is on the disk when it returns.

    Args:
        path: the file; it is created if it does not exist. It must not be on a network file system.
        max_events: how many entries are kept.
        max_age: how many seconds they are kept; old entries are dropped when something is published.
        max_keys, key_age: how many idempotency keys are remembered, and for how many seconds.
        publish_timeout: how many seconds `Hub.publish` waits until its event is stored.
        timeout: how many seconds to wait for the file's lock.

    Raises:
        TypeError, ValueError: the path names no file, or a bound is not acceptable.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_events: int = 100_000,
        max_age: float = math.inf,
        max_keys: int = MOST_SHARED_KEYS,
        key_age: float = KEY_SECONDS,
        publish_timeout: float = 5.0,
        timeout: float = 2.0,
    ) -> None:
        check_bounds(1, max_events=max_events, max_keys=max_keys)
        check_key_age(key_age)
        if os.fspath(path) in ("", ":memory:"):
            raise ValueError("SQLiteLog needs a file: without one, each session has its own database")
        if "\0" in os.fspath(path):
            raise ValueError(f"a file's path cannot have a NUL character: {path!r}")
        check_seconds(max_age=max_age, publish_timeout=publish_timeout, timeout=timeout)
        self.publish_timeout = publish_timeout
        self._path = os.path.abspath(os.fspath(path))
        self.max_events = self._max_events = max_events
        self._max_keys = max_keys
        self._key_age = key_age
        self.max_age = self._max_age = max_age
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<SQLiteLog {self._path}>"

    def connect(self) -> AbstractAsyncContextManager[LogSession]:
        """Return a session; see `Log.connect`."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[LogSession]:
        connection = await trio.to_thread.run_sync(
            open_database, self._path, self._timeout, limiter=trio.CapacityLimiter(1)
        )
        try:
            yield _Session(self, connection)
        finally:
            connection.close()


@final
class _Session(SQLiteRuns):
    def __init__(self, log: SQLiteLog, connection: sqlite3.Connection) -> None:
        self._log = log
        self._connection = connection
        self._limiter = trio.CapacityLimiter(1)
        with translated(log._path):
            self._files = DatabaseFiles(log._path)
        with self._with_files():
            self._read_start()

    async def tail(self) -> LogEnd:
        return await self._in_thread(self._tail)

    def _read_start(self) -> None:
        """Read the epoch, and after which number of all entries its own ones begin."""
        (self._epoch,) = self._connection.execute("select epoch from log_state").fetchone()
        (self._start,) = self._connection.execute("select number from log_start").fetchone()

    def _tail(self) -> LogEnd:
        with self._with_files():
            with transaction(self._connection, "deferred"):
                end = self._find_end()
            if end is None:  # there were entries: no client's id may be the end
                with transaction(self._connection):
                    end = self._find_end()
                    if end is None:
                        begin_epoch(self._connection)
                        end = self._find_end()
        assert end is not None
        return end

    def _find_end(self) -> LogEnd | None:
        """Return where the log ends; `None` if all entries of the epoch were removed."""
        self._read_start()
        newest = self._connection.execute(
            f"select number, milliseconds from log_entries where {HAS_TIME} and number > ?"
            " order by number desc limit 1",
            (self._start,),
        ).fetchone()
        used = self._connection.execute("select seq from sqlite_sequence where name = 'log_entries'")
        number = max(self._start, *(used.fetchone() or (0,)))
        if newest is None and number > self._start:
            return None
        last = entry_id(self._start, self._epoch) if newest is None else entry_id(*newest)
        return LogEnd(str(self._epoch), number - self._start, last)

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        order = "milliseconds desc, number desc"
        return await self._in_thread(
            self._select, f"(milliseconds, number) <= (?, ?) order by {order}", upto, limit
        )

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        condition = "(milliseconds, number) > (?, ?) order by milliseconds, number"
        deadline = trio.current_time() + _READ_SECONDS
        while not (found := await self._in_thread(self._select, condition, after, limit)):
            if trio.current_time() >= deadline:
                return ()
            await trio.sleep(_POLL_SECONDS)
        return found

    def _select(self, condition: str, id: str, limit: int) -> list[Entry]:
        first, second = parse_id(id) or (0, 0)
        with self._with_files(), transaction(self._connection, "deferred"):
            self._read_start()
            rows = self._connection.execute(
                f"select number, milliseconds, record from log_entries"
                f" where {HAS_TIME} and number > ? and {condition} limit ?",
                (self._start, min(first, _GREATEST), min(second, _GREATEST), limit),
            ).fetchall()
        return [self._entry(*row) for row in rows]

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Run work in a thread of this session's own: the application's threads may all be busy."""
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._limiter)

    @contextmanager
    def _with_files(self) -> Iterator[None]:
        """Translate errors, and check before and after the work that the files are those that were opened."""
        with translated(self._log._path):
            self._files.check()
            yield
            self._files.check()

    @contextmanager
    def _transaction(self, kind: str = "immediate") -> Iterator[None]:
        with self._with_files(), transaction(self._connection, kind):
            yield

    async def renew(self, epoch: str) -> None:
        """See `RenewableSession`."""
        await self._in_thread(self._renew, epoch)

    def _renew(self, epoch: str) -> None:
        with self._with_files(), transaction(self._connection):
            self._read_start()
            if str(self._epoch) == epoch:
                begin_epoch(self._connection)

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        """See `LeaseSession`."""
        return await self._in_thread(self._hold, name, holder, seconds)

    def _hold(self, name: str, holder: str, seconds: float) -> bool:
        with self._with_files(), transaction(self._connection):
            now = clock()
            # A lease that ends later than any that begins now is from before the machine was started.
            found = self._connection.execute(
                "select 1 from log_leases where name = ? and holder != ? and until between ? and ?",
                (name, holder, now, now + seconds),
            ).fetchone()
            if found is None:
                self._connection.execute(
                    "insert or replace into log_leases values (?, ?, ?)", (name, holder, now + seconds)
                )
        return found is None

    async def release(self, name: str, holder: str) -> None:
        """See `LeaseSession`."""
        await self._in_thread(self._release, name, holder)

    def _release(self, name: str, holder: str) -> None:
        with self._with_files(), transaction(self._connection):
            self._connection.execute("delete from log_leases where name = ? and holder = ?", (name, holder))

    async def exchange_notices(self, name: str, notice: bytes, seconds: float) -> Mapping[str, bytes]:
        """See `NoticeSession`."""
        return await self._in_thread(self._exchange, name, notice, seconds)

    def _exchange(self, name: str, notice: bytes, seconds: float) -> dict[str, bytes]:
        execute = self._connection.execute
        now = clock()
        with self._transaction("immediate" if notice else "deferred"):
            if notice:
                # What ends later than in a day is from before the machine was started.
                execute("delete from log_notices where until not between ? and ?", (now, now + 86_400))
                execute("insert or replace into log_notices values (?, ?, ?)", (name, notice, now + seconds))
            rows = execute(
                "select name, notice from log_notices where until between ? and ? limit ?",
                (now, now + 86_400, _MOST_NOTICES),
            ).fetchall()
        return {name: found for name, found in rows if isinstance(name, str) and isinstance(found, bytes)}

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        await self.append_once(publisher, [KeyedRecord(number, record, None) for number, record in records])

    async def append_once(self, publisher: str, records: Sequence[KeyedRecord]) -> Sequence[int]:
        """See `IdempotentSession`."""
        return await self._in_thread(self._append, publisher, records)

    def _append(self, publisher: str, records: Sequence[KeyedRecord]) -> Sequence[int]:
        connection = self._connection
        with self._with_files(), transaction(connection):
            now = time.time()  # ids grow in the order of transactions
            found = connection.execute(
                "select last from log_publishers where name = ?", (publisher,)
            ).fetchone()
            last = found[0] if found is not None else 0
            newest = connection.execute(
                f"select milliseconds from log_entries where {HAS_TIME} order by milliseconds desc limit 1"
            ).fetchone()
            self._read_start()
            # Ids grow, whatever the clock does.
            milliseconds = max(round(now * 1000), self._epoch, 0 if newest is None else newest[0])
            new = [item for item in records if item.number > last]
            if any(item.key is not None for item in new):
                new = self._without_known_keys(new, now)
            with refused_if_invalid(self._log._path):
                connection.executemany(
                    "insert into log_entries (milliseconds, record) values (?, ?)",
                    [(milliseconds, item.record) for item in new],
                )
            connection.execute(
                "insert or replace into log_publishers values (?, ?, ?)",
                (publisher, max([last, *(item.number for item in records)]), now),
            )
            connection.execute("delete from log_publishers where time < ?", (now - 86_400,))
            connection.execute(
                "delete from log_entries where number <= (select max(number) from log_entries) - ?",
                (self._log._max_events,),
            )
            if self._log._max_age < math.inf:
                connection.execute(
                    "delete from log_entries where milliseconds < ?"
                    " and number < (select max(number) from log_entries)",
                    (max(0, (now - self._log._max_age) * 1000),),
                )
        return [item.number for item in new]

    def _without_known_keys(self, records: Sequence[KeyedRecord], now: float) -> list[KeyedRecord]:
        """Remember the keys of records; return those whose keys were not remembered already."""
        execute = self._connection.execute
        execute("delete from log_keys where time < ?", (now - self._log._key_age,))
        new = []
        for item in records:
            if item.key is not None:
                if execute("select 1 from log_keys where digest = ?", (item.key,)).fetchone():
                    continue
                execute("insert into log_keys (digest, time) values (?, ?)", (item.key, now))
            new.append(item)
        execute(
            "delete from log_keys where number <= (select max(number) from log_keys) - ?",
            (self._log._max_keys,),
        )
        return new

    def _entry(self, number: int, milliseconds: int, record: object) -> Entry:
        id, epoch = entry_id(number, milliseconds), str(self._epoch)
        return Entry(id, epoch, number - self._start, record if isinstance(record, bytes) else b"")
