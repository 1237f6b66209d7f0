"""A log on PostgreSQL, woken by LISTEN/NOTIFY: an example of the log protocol, to start from.

    hub = Hub(log=PostgresLog("postgresql://user@host/database"))

It needs psycopg 3. Statements run in a worker thread; only the wait for a notification is Trio's own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import trio

from trio_sse import Entry, LogSession, LogUnavailable, Tail

SCHEMA = """
create table if not exists sse_state (only_row bool primary key default true, epoch bigint, number bigint);
create table if not exists sse_entries (number bigint primary key, record bytea not null);
create table if not exists sse_publishers (name text primary key, last bigint not null);
"""


class PostgresLog:
    """A log in three tables."""

    def __init__(self, url: str, *, max_events: int = 100_000, publish_timeout: float = 5.0) -> None:
        self.url = url
        self.max_events = max_events
        self.publish_timeout = publish_timeout

    def connect(self) -> AbstractAsyncContextManager[LogSession]:
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[LogSession]:
        connection = await trio.to_thread.run_sync(self._open)
        try:
            yield Session(self, connection)
        finally:
            connection.close()

    def _open(self) -> Any:
        import psycopg

        with translated():
            # The statement's bound is what ends a wait for a server that doesn't answer.
            options = "-c statement_timeout=2000"
            connection = psycopg.connect(
                self.url, autocommit=True, connect_timeout=2, tcp_user_timeout=3000, options=options
            )
            connection.execute("select pg_advisory_lock(7312)")  # two that begin at once would collide
            connection.execute(SCHEMA)
            connection.execute(
                "insert into sse_state (epoch, number) values (%s, 0) on conflict do nothing",
                (round(time.time() * 1000),),
            )
            connection.execute("select pg_advisory_unlock(7312)")
            connection.execute("listen sse_log")
        return connection


class Session:
    """One connection; the hub has two."""

    def __init__(self, log: PostgresLog, connection: Any) -> None:
        self.log = log
        self.connection = connection

    async def tail(self, limit: int) -> Tail:
        return await trio.to_thread.run_sync(self._tail, limit)

    def _tail(self, limit: int) -> Tail:
        with translated(), self.connection.transaction():
            # A lock, so that the state and the entries are of one moment.
            epoch, number = self.connection.execute(
                "select epoch, number from sse_state for share"
            ).fetchone()
            rows = self.connection.execute(
                "select number, record from sse_entries order by number desc limit %s", (limit,)
            ).fetchall()
        return Tail(str(epoch), number, f"{epoch}-{number}", [entry(epoch, *row) for row in reversed(rows)])

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        epoch, _, number = after.partition("-")
        found = await trio.to_thread.run_sync(self._read, int(epoch), int(number), limit)
        if not found:
            # What was notified since the last read is in the socket, or was read with that answer: look again
            # after a second at the latest.
            with trio.move_on_after(1):
                await trio.lowlevel.wait_readable(self.connection.fileno())
            found = await trio.to_thread.run_sync(self._read, int(epoch), int(number), limit)
        return found

    def _read(self, epoch: int, number: int, limit: int) -> list[Entry]:
        with translated():
            rows = self.connection.execute(
                "select number, record from sse_entries where number > %s order by number limit %s",
                (number, limit),
            ).fetchall()
        return [entry(epoch, *row) for row in rows]

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        await trio.to_thread.run_sync(self._append, publisher, records)

    def _append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        execute = self.connection.execute
        with translated(), self.connection.transaction():
            # The row's lock orders the publishers, so entries become visible in the order of their numbers.
            (number,) = execute("select number from sse_state for update").fetchone()
            row = execute("select last from sse_publishers where name = %s", (publisher,)).fetchone()
            last = row[0] if row else 0
            for own, record in records:
                if own > last:
                    number, last = number + 1, own
                    execute("insert into sse_entries values (%s, %s)", (number, record))
            execute("update sse_state set number = %s", (number,))
            execute(
                "insert into sse_publishers values (%s, %s)"
                " on conflict (name) do update set last = excluded.last",
                (publisher, last),
            )
            execute("delete from sse_entries where number <= %s", (number - self.log.max_events,))
            execute("notify sse_log")


def entry(epoch: int, number: int, record: bytes) -> Entry:
    return Entry(f"{epoch}-{number}", str(epoch), number, bytes(record))


@contextmanager
def translated() -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise LogUnavailable(f"PostgreSQL: {error}") from error
