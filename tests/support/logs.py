"""The logs that the same tests check: add your own to `SHARED` and to `logs`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trio_sse import Entry, Log, LogEnd, LogSession, LogUnavailable
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog

from .redis_server import redis_server
from .requirements import needs
from .waiting import SECONDS

MakeLog = Callable[..., Log]
MakeAny = Callable[..., Log | None]


# The kinds of shared logs; `logs` makes them.
SHARED = ["sqlite", pytest.param("redis", marks=[needs("redis-server"), pytest.mark.integration])]


#: Options of a log that waits as long as a busy machine takes.
PATIENT: dict[str, Any] = {"timeout": SECONDS, "publish_timeout": SECONDS}


@asynccontextmanager
async def logs(kind: str, folder: Path) -> AsyncIterator[MakeLog]:
    """Return a factory of logs of one kind, which share their entries; they are patient by default."""
    if kind == "sqlite":
        yield lambda **options: SQLiteLog(folder / "log.db", **{**PATIENT, **options})
    else:
        assert kind == "redis", f"how to make a log of the kind {kind!r}?"
        with redis_server(folder) as server:
            await server.start()
            yield lambda **options: RedisLog(server.url, **{**PATIENT, **options})


async def skip_without(log: Log, ability: type) -> None:
    """Skip the test if a log of your own does not have something that is optional, such as `LeaseSession`."""
    async with log.connect() as session:
        if not isinstance(session, ability):
            pytest.skip(f"the log has no {ability.__name__}")


class Interrupted:
    """A log that can be away, for reads and appends."""

    publish_timeout: float = 0.2

    def __init__(self, log: Log) -> None:
        self.is_away = False
        self._log = log

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        self.check()
        async with self._log.connect() as session:
            yield CheckedSession(session, self.check)

    def check(self) -> None:
        if self.is_away:
            raise LogUnavailable("away")


class CheckedSession:
    """A session of a log; `check` is called before each operation, and may raise what it fails with."""

    def __init__(self, session: LogSession, check: Callable[[], None]) -> None:
        self._session = session
        self._check = check

    async def tail(self) -> LogEnd:
        self._check()
        return await self._session.tail()

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        self._check()
        return await self._session.read_backward(upto, limit)

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        self._check()
        return await self._session.read(after, limit)

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        self._check()
        await self._session.append(publisher, records)


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    """Return what a logger has logged."""
    return [record.getMessage() for record in caplog.records if record.name == logger]
