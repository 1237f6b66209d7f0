"""What a hub logs about a shared log that keeps failing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trio_sse import LogSession, LogUnavailable
from trio_sse._shared_log.sessions import LogSessions


class Unreachable:
    """A log that cannot be reached; each attempt takes a while."""

    publish_timeout = 5.0

    def __init__(self, takes: float) -> None:
        self.tries = 0
        self.reason = "no route"
        self._takes = takes

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        self.tries += 1
        await trio.sleep(self._takes)
        raise LogUnavailable(self.reason)
        yield


async def work(session: LogSession) -> None:
    raise AssertionError


@pytest.mark.parametrize("takes", [0, 2.5])
async def test_an_outage_is_logged_each_minute_and_when_its_reason_changes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, takes: float
) -> None:
    log = Unreachable(takes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(LogSessions(log).keep, work)
        await trio.sleep(50)
        assert log.tries > 15
        log.reason = "no answer"
        await trio.sleep(80)
        logged = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
        assert logged == ["no route", "no answer", "no answer"]
        nursery.cancel_scope.cancel()
