"""The logs of cases: in memory, shared within this process, in a file, and in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, final

from trio_sse import Log, LogSession, LogUnavailable
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog

from ..support.list_log import ListLog
from ..support.logs import CheckedSession
from ..support.waiting import SECONDS
from .places import Place, Trigger

#: A list is a shared log that needs no time, so that the clock may jump.
LOGS = ("memory", "list", "sqlite", "redis")

#: Those in which nothing outside of Trio takes part, neither a thread nor another process.
OF_PROCESS = ("memory", "list")

_PATIENT: dict[str, Any] = {"timeout": SECONDS, "publish_timeout": SECONDS}


@final
class FailingLog:
    """A shared log in a list, of which one operation fails."""

    publish_timeout = 5.0

    def __init__(self, trigger: Trigger) -> None:
        self.list = ListLog()
        self._trigger = trigger

    def check(self) -> None:
        """Say that an operation begins; fail if it is its turn."""
        if self._trigger.place is Place.LOG and self._trigger.hit():
            raise LogUnavailable("injected")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        self.check()
        async with self.list.connect() as session:
            yield CheckedSession(session, self.check)


@final
class Logs:
    """Makes logs, each of which is empty.

    Args:
        folder: where files are.
        redis: the URL of a server, if there is one.
    """

    def __init__(self, folder: Path, redis: str | None = None) -> None:
        self._folder = folder
        self._redis = redis
        self._made = 0

    def make(self, kind: str, trigger: Trigger) -> Log | None:
        """Return a new log; `None` for the one in memory, which each hub has."""
        self._made += 1
        match kind:
            case "list":
                return FailingLog(trigger)
            case "sqlite":
                return SQLiteLog(self._folder / f"log{self._made}.db", **_PATIENT)
            case "redis":
                assert self._redis is not None
                return RedisLog(self._redis, prefix=f"log{self._made}", **_PATIENT)
        return None

    def forget(self) -> None:
        """Remove the files of the last log."""
        for file in self._folder.glob(f"log{self._made}.db*"):
            file.unlink()
