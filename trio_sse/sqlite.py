"""A durable log in one file, for the hubs of one machine: replay survives a restart.

An id is made of an entry's time and number, and both only grow. So a log that continues from a restored
backup assigns no id twice.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar, final

import trio

from ._log.idempotency import KEY_SECONDS, MOST_SHARED_KEYS, check_key_age
from ._log_backends.sqlite_file import DatabaseFiles
from ._process.suspension import seconds_suspended
from ._shared_log.entry_id import parse_id
from ._shared_log.protocol import (
    Entry,
    EventRefused,
    KeyedRecord,
    LogEnd,
    LogRefused,
    LogSession,
    LogUnavailable,
)
from ._validate import check_bounds, check_seconds

__all__ = ["SQLiteLog"]

_SCHEMA = """
create table if not exists log_state (epoch integer not null);
create table if not exists log_start (number integer not null, inode integer not null);
create table if not exists log_entries (
  number integer primary key autoincrement, milliseconds integer not null, record blob not null
);
create index if not exists log_ids on log_entries (milliseconds, number);
create table if not exists log_keys (
  number integer primary key autoincrement, digest blob not null unique, time real not null
);
create table if not exists log_leases (name text primary key, holder text not null, until real not null);
create table if not exists log_publishers (name text primary key, last integer not null, time real not null);
"""

# Errors that waiting does not resolve: a missing folder, or one that is not writable. Extended codes, whose
# last byte is one of these, are not among them: an error of a full disk's journal may pass.
_FINAL = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)

# SQLite's columns take any type: a row that another program has put there may have no time.
_HAS_TIME = "typeof(milliseconds) = 'integer' and milliseconds >= 0"

T = TypeVar("T")

_GREATEST = 2**63 - 1
_POLL_SECONDS = 0.05
_READ_SECONDS = 1.0
_LONGEST_TIMEOUT = 86_400.0  # SQLite counts milliseconds in 32 bits, and takes more as none


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
        connection = await trio.to_thread.run_sync(self._open, limiter=trio.CapacityLimiter(1))
        try:
            yield _Session(self, connection)
        finally:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        with _translated(self._path):
            connection = sqlite3.connect(
                self._path,
                timeout=min(self._timeout, _LONGEST_TIMEOUT),
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma synchronous = full")
                connection.executescript(_SCHEMA)
                with _transaction(connection):
                    if connection.execute("select 1 from log_state").fetchone() is None:
                        connection.execute("insert into log_state values (?)", (round(time.time() * 1000),))
                    inode = os.stat(self._path).st_ino
                    start = connection.execute("select inode from log_start").fetchone()
                    if start is None:
                        connection.execute("insert into log_start values (0, ?)", (inode,))
                    elif start[0] != inode:  # a copy: the original may have had more
                        _renew(connection)
                        connection.execute("update log_start set inode = ?", (inode,))
            except BaseException:
                connection.close()
                raise
        return connection


@final
class _Session:
    def __init__(self, log: SQLiteLog, connection: sqlite3.Connection) -> None:
        self._log = log
        self._connection = connection
        self._limiter = trio.CapacityLimiter(1)
        with _translated(log._path):
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
            with _transaction(self._connection, "deferred"):
                end = self._find_end()
            if end is None:  # there were entries: no client's id may be the end
                with _transaction(self._connection):
                    end = self._find_end()
                    if end is None:
                        _renew(self._connection)
                        end = self._find_end()
        assert end is not None
        return end

    def _find_end(self) -> LogEnd | None:
        """Return where the log ends; `None` if all entries of the epoch were removed."""
        self._read_start()
        newest = self._connection.execute(
            f"select number, milliseconds from log_entries where {_HAS_TIME} and number > ?"
            " order by number desc limit 1",
            (self._start,),
        ).fetchone()
        used = self._connection.execute("select seq from sqlite_sequence where name = 'log_entries'")
        number = max(self._start, *(used.fetchone() or (0,)))
        if newest is None and number > self._start:
            return None
        last = _id(self._start, self._epoch) if newest is None else _id(*newest)
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
        with self._with_files(), _transaction(self._connection, "deferred"):
            self._read_start()
            rows = self._connection.execute(
                f"select number, milliseconds, record from log_entries"
                f" where {_HAS_TIME} and number > ? and {condition} limit ?",
                (self._start, min(first, _GREATEST), min(second, _GREATEST), limit),
            ).fetchall()
        return [self._entry(*row) for row in rows]

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Run work in a thread of this session's own: the application's threads may all be busy."""
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._limiter)

    @contextmanager
    def _with_files(self) -> Iterator[None]:
        """Translate errors, and check before and after the work that the files are those that were opened."""
        with _translated(self._log._path):
            self._files.check()
            yield
            self._files.check()

    async def renew(self, epoch: str) -> None:
        """See `RenewableSession`."""
        await self._in_thread(self._renew, epoch)

    def _renew(self, epoch: str) -> None:
        with self._with_files(), _transaction(self._connection):
            self._read_start()
            if str(self._epoch) == epoch:
                _renew(self._connection)

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        """See `LeaseSession`."""
        return await self._in_thread(self._hold, name, holder, seconds)

    def _hold(self, name: str, holder: str, seconds: float) -> bool:
        with self._with_files(), _transaction(self._connection):
            now = _seconds_since_boot()
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
        with self._with_files(), _transaction(self._connection):
            self._connection.execute("delete from log_leases where name = ? and holder = ?", (name, holder))

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        await self.append_once(publisher, [KeyedRecord(number, record, None) for number, record in records])

    async def append_once(self, publisher: str, records: Sequence[KeyedRecord]) -> None:
        """See `IdempotentSession`."""
        await self._in_thread(self._append, publisher, records)

    def _append(self, publisher: str, records: Sequence[KeyedRecord]) -> None:
        connection = self._connection
        with self._with_files(), _transaction(connection):
            now = time.time()  # ids grow in the order of transactions
            found = connection.execute(
                "select last from log_publishers where name = ?", (publisher,)
            ).fetchone()
            last = found[0] if found is not None else 0
            newest = connection.execute(
                f"select milliseconds from log_entries where {_HAS_TIME} order by milliseconds desc limit 1"
            ).fetchone()
            self._read_start()
            # Ids grow, whatever the clock does.
            milliseconds = max(round(now * 1000), self._epoch, 0 if newest is None else newest[0])
            new = [item for item in records if item.number > last]
            if any(item.key is not None for item in new):
                new = self._without_known_keys(new, now)
            with _refused_if_invalid(self._log._path):
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
        id, epoch = _id(number, milliseconds), str(self._epoch)
        return Entry(id, epoch, number - self._start, record if isinstance(record, bytes) else b"")


def _seconds_since_boot() -> float:
    """Return the time of a clock that all processes of this machine share, and that nobody sets."""
    return time.monotonic() + seconds_suspended()


def _id(number: int, milliseconds: int) -> str:
    """Return an entry's id; it starts with the time, so a restored backup assigns no id again."""
    return f"{milliseconds}-{number}"


def _renew(connection: sqlite3.Connection) -> None:
    """Begin a new epoch; the entries of the old one are no longer read."""
    connection.execute(
        "update log_state set epoch = max(?, epoch + 1,"
        f" (select coalesce(max(milliseconds), 0) + 1 from log_entries where {_HAS_TIME}))",
        (round(time.time() * 1000),),
    )
    connection.execute(
        "update log_start set number = coalesce("
        "(select seq from sqlite_sequence where name = 'log_entries'), 0)"
    )


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "immediate") -> Iterator[None]:
    connection.execute(f"begin {kind}")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


@contextmanager
def _refused_if_invalid(path: str) -> Iterator[None]:
    """Raise `EventRefused` if a row can never be stored: it is too large, for example."""
    try:
        yield
    except (sqlite3.DataError, sqlite3.IntegrityError) as error:
        raise EventRefused(f"SQLite, {path}: {error}") from error


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Translate the errors of SQLite, and of the file at `path`, into `LogUnavailable` or `LogRefused`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)  # missing where Python itself raises it
        is_passing = isinstance(error, sqlite3.OperationalError) and code not in _FINAL
        kind = LogUnavailable if is_passing else LogRefused
        raise kind(f"SQLite, {path}: {error}") from error
    except OSError as error:  # of the file itself
        raise LogUnavailable(f"SQLite, {path}: {error.strerror}") from error
