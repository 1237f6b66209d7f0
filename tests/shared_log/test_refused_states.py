"""What of a state a shared log never stores: its change fails alone, and the hub goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_sse import EventRefused, Hub, Log, LogSession, PatchFormat

from ..support.logs import SHARED, CheckedSession, MakeLog, lines, logs
from ..support.serving import running
from ..support.waiting import SECONDS, until
from .test_foreign_logs import ListLog, raising

MOST = 2000  # bytes of a record
LARGE = "x" * MOST


class SmallLog:
    """A log that refuses records of more than some bytes."""

    def __init__(self, log: Log) -> None:
        self.publish_timeout = log.publish_timeout
        self._log = log

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        async with self._log.connect() as session:
            yield _SmallSession(session, lambda: None)


class _SmallSession(CheckedSession):
    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        if any(len(record) > MOST for _, record in records):
            raise EventRefused("too large")
        await super().append(publisher, records)


@pytest.fixture(params=[*SHARED, "list"])
async def make_small(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], Log]]:
    if request.param == "list":
        log = ListLog()
        log.publish_timeout = SECONDS
        yield lambda: SmallLog(log)
    else:
        async with logs(request.param, tmp_path) as make:
            yield lambda: SmallLog(make())


async def test_a_change_that_the_log_never_stores_fails_alone(
    make_small: Callable[[], Log], caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub(log=make_small())
    state = hub.state("s", {})
    refused: list[str] = []

    async def update(name: str, value: object) -> None:
        try:
            await state.update({name: value})
        except EventRefused:
            refused.append(name)

    with trio.fail_after(SECONDS):
        async with running(hub):
            await update("first", 1)
            async with trio.open_nursery() as nursery:  # they become one entry, as far as possible
                for number in range(6):
                    nursery.start_soon(update, f"{number}", LARGE if number in (2, 4) else number)
                    await trio.lowlevel.checkpoint()
            assert sorted(refused) == ["2", "4"]
            state.set_nowait(LARGE)
            await until(lambda: lines(caplog, "trio_sse.hub"))
            with pytest.raises(EventRefused):
                async with hub.presence("room").join("ada", LARGE):
                    pass
            await update("last", 9)
            assert state.value == {"first": 1, "0": 0, "1": 1, "3": 3, "5": 5, "last": 9}
            async with hub.subscribe("s") as events:
                assert (await anext(events)).event == "snapshot"


async def test_a_state_whose_initial_value_is_never_stored_is_not_changed(
    make_small: Callable[[], Log],
) -> None:
    hub = Hub(log=make_small())
    state = hub.state("s", {"text": LARGE})
    with trio.fail_after(SECONDS):
        async with running(hub):
            for change in ({"a": 1}, {"b": 2}):
                with pytest.raises(EventRefused):
                    await state.update(change)
            await state.set({"c": 3})
            assert state.value == {"c": 3}


async def test_ticks_that_the_log_does_not_store_are_skipped(autojump_clock: MockClock) -> None:
    log = ListLog()
    hub = Hub(log=log)
    async with running(hub) as nursery:
        run = partial(
            hub.run_ticker, "clock", every=1.0, singleton=False, clock=lambda: 1.7e9 + trio.current_time()
        )
        ticker = await nursery.start(run)
        log.broken = {"append": raising(EventRefused)}
        await trio.sleep(5)
        log.broken = {}
        await trio.sleep(5)
        statistics = ticker.statistics()
        assert statistics.ticks > 3
        assert statistics.skipped > 3


async def test_a_patch_that_is_larger_than_an_event_may_be_is_sent_as_a_snapshot(
    make_shared: MakeLog,
) -> None:
    hub = Hub(log=make_shared())
    names = [f"{number:03}" + "~" * 2000 for number in range(300)]  # twice as long in a patch's paths
    state = hub.state("s", dict.fromkeys(names, 0), patch=PatchFormat.JSON)
    with trio.fail_after(SECONDS):
        async with running(hub):
            await state.update(dict.fromkeys(names, 1))
            assert state.value == dict.fromkeys(names, 1)
