"""What interrupts a log or a hub's run, and must lose nothing: on every kind of log."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from trio_sse import Hub, Ticker
from trio_sse._hub.hub import engine_of

from ..support.logs import Interrupted, MakeAny, MakeLog
from ..support.waiting import SECONDS, until


async def until_more(ticker: Ticker, name: str, more: int = 3) -> None:
    """Wait until a count of the ticker's statistics has grown."""
    before = getattr(ticker.statistics(), name)
    await until(lambda: getattr(ticker.statistics(), name) >= before + more)


@pytest.mark.integration
async def test_a_ticker_survives_an_outage_and_warns_once(
    make_shared: MakeLog, caplog: pytest.LogCaptureFixture
) -> None:
    log = Interrupted(make_shared())
    hub = Hub(log=log)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            ticker: Ticker = await nursery.start(
                partial(hub.run_ticker, "clock", every=0.05, singleton=False)
            )
            for _ in range(2):
                await until_more(ticker, "ticks")
                log.is_away = True
                await until_more(ticker, "skipped")
                log.is_away = False
            await until_more(ticker, "ticks")
            nursery.cancel_scope.cancel()
    warnings = [record for record in caplog.records if "ticks are skipped" in record.getMessage()]
    assert 2 <= len(warnings) < ticker.statistics().skipped  # a tick may succeed before the log is steady


@pytest.mark.slow
@pytest.mark.parametrize("interval", [None, 0.01])
async def test_a_run_that_passes_to_another_task_loses_nothing(
    make_log: MakeAny, interval: float | None
) -> None:
    hub = Hub(log=make_log(), history=3)
    runs = [trio.CancelScope() for _ in range(6)]

    async def run(scope: trio.CancelScope) -> None:
        with scope:
            await engine_of(hub).keep_running(trio.TASK_STATUS_IGNORED)

    async def publish() -> None:
        for number in range(300):
            await hub.publish("t", number, key=str(number))

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            for scope in runs:
                nursery.start_soon(run, scope)
            await until(lambda: hub.is_ready and hub.is_running)
            async with hub.subscribe("t", interval=interval) as events:
                nursery.start_soon(publish)
                for number in range(300):
                    if number % 50 == 25 and number < 270:
                        runs[number // 50].cancel()
                    assert (await anext(events)).data == str(number)
            nursery.cancel_scope.cancel()
