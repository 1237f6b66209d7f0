"""Publishers of a shared log: how long they wait, and what the log does not take."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_sse import EventRefused, Hub, LogRefused, LogSession, LogUnavailable, Server
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog

from ..support.list_log import ListLog, ListSession
from ..support.logs import PATIENT, Interrupted, MakeLog
from ..support.redis_server import redis_server
from ..support.requirements import needs
from ..support.serving import running
from ..support.waiting import SECONDS


class HangingLog:
    """A log that never answers, until it refuses."""

    publish_timeout = 0.5

    def __init__(self) -> None:
        self.refuses = trio.Event()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        await self.refuses.wait()
        raise LogRefused("wrong password")
        yield


async def test_publish_keeps_its_timeout_during_the_first_load(autojump_clock: MockClock) -> None:
    hub = Hub(log=HangingLog())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        await trio.sleep(1)
        for _ in range(3):
            began_at = trio.current_time()
            with pytest.raises(LogUnavailable, match=r"not stored within 0\.5 s"):
                await hub.publish("t", "x")
            assert trio.current_time() - began_at == pytest.approx(0.5)
        nursery.cancel_scope.cancel()


async def test_a_refusal_of_the_first_load_is_no_group(autojump_clock: MockClock) -> None:
    log = HangingLog()
    log.refuses.set()
    with pytest.raises(LogRefused, match="wrong password"):
        await Hub(log=log).run()


async def test_a_server_drains_during_the_first_load(autojump_clock: MockClock) -> None:
    server = Server(hub=Hub(log=HangingLog()))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, "127.0.0.1", 0)
            await trio.sleep(1)
            assert server.statistics().is_draining is False
            await server.drain()  # then `serve` returns
    assert not server.hub.is_running


# A log that can be read only


class ReadOnlyLog(ListLog):
    """A log that takes nothing, or only as many entries at once as it should."""

    most = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        async with super().connect():
            yield ReadOnlySession(self)


class ReadOnlySession(ListSession):
    log: ReadOnlyLog

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        if len(records) > self.log.most or self.log.most < 0:
            raise LogUnavailable("read only")
        await super().append(publisher, records)


async def test_a_log_is_not_writable_until_it_takes_entries_again(autojump_clock: MockClock) -> None:
    log = ReadOnlyLog()
    hub = Hub(log=log)

    def problem() -> str | None:
        return hub.statistics().log_problem

    async with running(hub):
        log.most = -1
        with pytest.raises(LogUnavailable, match="read only"):
            await hub.publish("t", "it is given up by its publisher")
        await trio.sleep(100)
        assert problem() == "log_not_writable"
        log.most = 9
        await trio.sleep(3)
        assert problem() is None
        assert not log.entries

        log.most = -1
        hub.publish_nowait("t", "it is tried until it is stored")
        await trio.sleep(100)
        assert problem() == "log_not_writable"
        log.most = 9
        await trio.sleep(3)
        assert problem() is None
        assert len(log.entries) == 1

        log.most = 0  # it is to blame, not the log
        with pytest.raises(LogUnavailable, match="it is sent this event"):
            await hub.publish("t", "x")
        await trio.sleep(1)
        assert problem() is None

        log.is_away = True  # for reads, too
        log.changed.unpark_all()
        with pytest.raises(LogUnavailable, match="away"):
            await hub.publish("t", "x")
        assert problem() == "log_unavailable"
        log.is_away = False
        seen = set()
        for _ in range(50):
            await trio.sleep(0.1)
            seen.add(problem())
        assert "log_not_writable" not in seen
        assert problem() is None


# What a log never takes


BAD = 1_048_570  # bytes; the largest event has six more


async def publish_around_it(hub: Hub, expected: type[Exception] | tuple[type[Exception], ...]) -> None:
    """Publish an event that the log does not take among others; check that these are stored in order."""
    outcomes: dict[int, type[BaseException] | None] = {}

    async def publish(number: int) -> None:
        try:
            await hub.publish("t", f"{number}".ljust(BAD if number == 3 else 1))
        except (EventRefused, LogUnavailable) as error:
            outcomes[number] = type(error)
        else:
            outcomes[number] = None

    with trio.fail_after(SECONDS):
        async with hub.subscribe("t") as events:
            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    for number in range(8):
                        nursery.start_soon(publish, number)
                        await trio.lowlevel.checkpoint()
                error = outcomes.pop(3)
                assert error is not None
                assert issubclass(error, expected)
                assert set(outcomes.values()) == {None}
            hub.publish_nowait("t", "x" * BAD)
            hub.publish_nowait("t", "the last")
            received = [(await anext(events)).data for _ in range(15)]
            assert sorted(map(str, received[:7])) == list("0124567")
            assert received[-1] == "the last"
    assert hub.statistics().refused == 3


async def test_an_event_that_sqlite_never_takes_does_not_block_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.db"
    async with running(Hub(log=SQLiteLog(path))) as nursery:
        connection = sqlite3.connect(path)
        connection.execute(
            "create trigger small before insert on log_entries when length(new.record) > 1000000"
            " begin select raise(abort, 'too large'); end"
        )
        connection.close()
        nursery.cancel_scope.cancel()
    hub = Hub(log=SQLiteLog(path, **PATIENT))
    async with running(hub):
        await publish_around_it(hub, EventRefused)
    assert "an event of the topic 't' was not stored" in caplog.text


@needs("redis-server")
@pytest.mark.integration
@pytest.mark.parametrize(
    "setting",
    [
        "client-query-buffer-limit 1048576",  # closes the connection
        "proto-max-bulk-len 1048576",
        "maxmemory 4000000",  # too little for this one command
    ],
)
async def test_an_event_that_redis_never_takes_does_not_block_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setattr("trio_sse._shared_log.sessions._LONGEST_WAIT", 0.05)  # there are 15 failures
    with redis_server(tmp_path) as server:
        await server.start()
        if setting.startswith("maxmemory"):
            used = re.search(rb"used_memory:(\d+)", await server.do("INFO memory"))
            assert used is not None
            setting = f"maxmemory {int(used[1]) + 800_000}"
        assert b"OK" in await server.do(f"CONFIG SET {setting}")
        hub = Hub(log=RedisLog(server.url, **PATIENT))  # the others wait while it is tried
        async with running(hub):
            await publish_around_it(hub, (EventRefused, LogUnavailable))


@pytest.mark.integration
async def test_an_outage_gives_up_no_event(make_shared: MakeLog) -> None:
    log = Interrupted(make_shared())
    log.publish_timeout = SECONDS
    hub = Hub(log=log)
    with trio.fail_after(SECONDS):
        async with running(hub), hub.subscribe("t") as events:
            for round in range(3):
                log.is_away = True
                for number in range(20):
                    hub.publish_nowait("t", f"{round} {number}")
                await trio.sleep(0.5)
                log.is_away = False
                assert [(await anext(events)).data for _ in range(20)] == [f"{round} {n}" for n in range(20)]
    assert hub.statistics().refused == 0
