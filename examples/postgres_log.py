"""A log on PostgreSQL that uses LISTEN/NOTIFY: `python -m examples.postgres_log`.

Set DATABASE_URL, for example to `postgresql://user:password@host/database`. The example shows how to
implement the log protocol. It needs psycopg 3. Statements run in a worker thread; only the wait for a
notification runs in Trio.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import trio

from trio_sse import Connection, Entry, Hub, LogEnd, LogSession, LogUnavailable, Server

PORT = int(os.environ.get("PORT", "8000"))
DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql://postgres@127.0.0.1/postgres")

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
            # The statement timeout ends the wait for a server that does not answer.
            options = "-c statement_timeout=2000"
            connection = psycopg.connect(
                self.url, autocommit=True, connect_timeout=2, tcp_user_timeout=3000, options=options
            )
            connection.execute("select pg_advisory_lock(7312)")  # for processes that start together
            connection.execute(SCHEMA)
            connection.execute(
                "insert into sse_state (epoch, number) values (%s, 0) on conflict do nothing",
                (round(time.time() * 1000),),
            )
            connection.execute("select pg_advisory_unlock(7312)")
            connection.execute("listen sse_log")
        return connection


class Session:
    """One connection. The hub opens two."""

    def __init__(self, log: PostgresLog, connection: Any) -> None:
        self.log = log
        self.connection = connection

    async def tail(self) -> LogEnd:
        return await trio.to_thread.run_sync(self._end)

    def _end(self) -> LogEnd:
        with translated():
            epoch, number = self.connection.execute("select epoch, number from sse_state").fetchone()
        return LogEnd(str(epoch), number, f"{epoch}-{number}")

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        return await trio.to_thread.run_sync(self._select, upto, "<=", "desc", limit)

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        found = await trio.to_thread.run_sync(self._select, after, ">", "asc", limit)
        if not found:
            # A notification since the last read is either in the socket or was read with that answer, so look
            # again after at most one second.
            with trio.move_on_after(1):
                await trio.lowlevel.wait_readable(self.connection.fileno())
            found = await trio.to_thread.run_sync(self._select, after, ">", "asc", limit)
        return found

    def _select(self, id: str, comparison: str, order: str, limit: int) -> list[Entry]:
        """Return entries after or up to an id. Ids are ordered by epoch first."""
        with translated():
            rows = self.connection.execute(
                "select epoch, sse_entries.number, record from sse_state, sse_entries"
                f" where (epoch, sse_entries.number) {comparison} (%s, %s)"
                f" order by sse_entries.number {order} limit %s",
                (*map(int, id.split("-")), limit),
            ).fetchall()
        return [entry(*row) for row in rows]

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        await trio.to_thread.run_sync(self._append, publisher, records)

    def _append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        execute = self.connection.execute
        with translated(), self.connection.transaction():
            # The row lock orders the publishers, so entries become visible in the order of their numbers.
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


server = Server(hub=Hub(log=PostgresLog(DATABASE_URL)))


@server.route("/clock")
async def clock(connection: Connection) -> None:
    await connection.subscribe("clock")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"curl -N http://127.0.0.1:{addresses[0][1]}/clock", flush=True)
        while True:
            try:
                await server.hub.publish("clock", {"time": time.time()}, event="tick")
            except LogUnavailable as error:
                print(error, flush=True)
            await trio.sleep(1)


if __name__ == "__main__":
    trio.run(main)
