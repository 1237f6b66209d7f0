"""Leases: what runs once among the nodes of a log, and what happens when its node is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Hub, LeaseSession, LogSession
from trio_sse._shared_log import leases
from trio_sse._shared_log.leases import LEASE_MARGIN, LEASE_SECONDS

from ..support.cancellations import foreign_cancellation
from ..support.logs import Interrupted, MakeAny, MakeLog
from ..support.serving import running
from ..support.waiting import SECONDS, until


async def test_a_lease_has_one_holder(make_leasing: MakeLog) -> None:
    async with make_leasing().connect() as session:
        assert isinstance(session, LeaseSession)
        hold, release = session.hold, session.release
        assert await hold("n", "a", 30)
        assert await hold("n", "a", 30)  # renewed
        assert not await hold("n", "b", 30)
        assert await hold("other", "b", 30)
        await release("n", "b")  # it is not its holder
        assert not await hold("n", "b", 30)
        await release("n", "a")
        assert await hold("n", "b", 30)
        assert not await hold("n", "a", 30)
        assert await hold("n", "b", 0.1)  # a shorter time than before
        await trio.sleep(0.15)
        assert await hold("n", "a", 30)


async def test_a_singleton_returns_what_its_function_returns(make_log: MakeAny) -> None:
    hub = Hub(log=make_log())

    async def double(number: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * number

    async def fail() -> None:
        raise OSError("its own")

    async def pass_on() -> None:
        raise foreign_cancellation()

    with trio.fail_after(SECONDS):
        async with running(hub):
            assert await hub.run_singleton("n", double, 21) == 42
            with pytest.raises(OSError, match="its own"):
                await hub.run_singleton("n", fail)
            with pytest.raises((RuntimeError, trio.Cancelled)):
                await hub.run_singleton("n", pass_on)
            assert await hub.run_singleton("n", double, 4) == 8  # it was released at once
            with pytest.raises(ValueError, match="256"):
                await hub.run_singleton("", double, 1)


@pytest.mark.integration
async def test_a_singleton_runs_on_one_node_at_a_time(make_log: MakeAny) -> None:
    log = make_log()
    hubs = [Hub(log=log) for _ in range(3)] if log is not None else [Hub()] * 3
    at_work: list[int] = []
    done: list[int] = []

    async def work(number: int) -> None:
        assert at_work == []
        at_work.append(number)
        await trio.sleep(0.05)
        at_work.remove(number)
        done.append(number)

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            for hub in dict.fromkeys(hubs):
                await nursery.start(hub.run)
            async with trio.open_nursery() as workers:
                for number in range(6):
                    workers.start_soon(hubs[number % 3].run_singleton, "n", work, number)
            nursery.cancel_scope.cancel()
    assert sorted(done) == list(range(6))


@pytest.mark.integration
async def test_a_node_that_is_cancelled_lets_its_function_end_before_another_begins(
    make_leasing: MakeLog,
) -> None:
    log = make_leasing()
    one, two = Hub(log=log), Hub(log=log)
    steps: list[str] = []
    begun = trio.Event()

    async def first() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.3)
            steps.append("first has ended")

    async def second() -> None:
        steps.append("second begins")

    with trio.fail_after(SECONDS):
        async with (
            running(one),
            running(two),
            trio.open_nursery() as nursery,
            trio.open_nursery() as inner,
        ):
            inner.start_soon(one.run_singleton, "n", first)
            await begun.wait()
            nursery.start_soon(two.run_singleton, "n", second)
            await trio.sleep(0.1)
            inner.cancel_scope.cancel()
    assert steps == ["first has ended", "second begins"]


@pytest.fixture
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LEASE_SECONDS", 1.0), ("LEASE_MARGIN", 0.3), ("_RENEW_SECONDS", 0.2)):
        monkeypatch.setattr(leases, name, seconds)


class Leasing(Interrupted):
    """A log with leases that can be away."""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        self.check()
        async with self._log.connect() as session:
            assert isinstance(session, LeaseSession)
            inner = session.hold

            async def hold(name: str, holder: str, seconds: float) -> bool:
                self.check()
                return bool(await inner(name, holder, seconds))

            session.hold = hold  # type: ignore[method-assign]
            yield session


@pytest.mark.integration
@pytest.mark.usefixtures("_short_leases")
async def test_a_node_that_loses_the_log_is_cancelled_before_another_begins(make_leasing: MakeLog) -> None:
    inner = make_leasing()
    logs = Leasing(inner), Leasing(inner)
    hubs = [Hub(log=log) for log in logs]
    holders: list[int] = []

    async def work(number: int) -> None:
        assert holders == []
        holders.append(number)
        try:
            await trio.sleep_forever()
        finally:
            holders.remove(number)

    with trio.fail_after(SECONDS):
        async with running(hubs[0]), running(hubs[1]), trio.open_nursery() as nursery:
            for number, hub in enumerate(hubs):
                nursery.start_soon(hub.run_singleton, "n", work, number)
            for _ in range(2):
                await until(lambda: holders)
                (holder,) = holders
                logs[holder].is_away = True
                await until(lambda holder=holder: holders == [1 - holder])  # type: ignore[misc]
                logs[holder].is_away = False
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("_short_leases")
async def test_a_machine_that_has_slept_stops_what_runs_with_a_lease(
    make_leasing: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = 0.0
    monkeypatch.setattr(leases, "seconds_suspended", lambda: slept)
    monkeypatch.setattr(leases, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(leases, "_RENEW_SECONDS", 0.6)
    hub = Hub(log=make_leasing())
    runs = ends = 0

    async def work() -> None:
        nonlocal runs, ends
        runs += 1
        try:
            await trio.sleep_forever()
        finally:
            ends += 1

    with trio.fail_after(SECONDS):
        async with running(hub), trio.open_nursery() as nursery:
            nursery.start_soon(hub.run_singleton, "n", work)
            await until(lambda: runs == 1)
            slept = 3600.0
            await until(lambda: ends == 1)
            await until(lambda: runs == 2)  # nobody else has taken it
            nursery.cancel_scope.cancel()


async def test_a_log_without_leases_has_no_singletons(make_shared: MakeLog) -> None:
    hub = Hub(log=Interrupted(make_shared()))
    with trio.fail_after(SECONDS):
        async with running(hub):
            with pytest.raises(RuntimeError, match="no leases"):
                await hub.run_singleton("n", trio.sleep_forever)
            with pytest.raises(RuntimeError, match="no leases"):
                await hub.run_ticker("t")


def test_the_margin_leaves_time_to_renew_a_lease() -> None:
    assert LEASE_SECONDS - LEASE_MARGIN >= 3 * leases._RENEW_SECONDS


async def test_names_are_independent(autojump_clock: MockClock) -> None:
    hub = Hub()
    async with running(hub), trio.open_nursery() as nursery:
        nursery.start_soon(hub.run_singleton, "a", trio.sleep_forever)
        await hub.run_singleton("b", trio.sleep, 1)
        with trio.move_on_after(1) as waiting:
            await hub.run_singleton("a", trio.sleep, 1)
        assert waiting.cancelled_caught
        nursery.cancel_scope.cancel()


# Tickers


@pytest.mark.integration
async def test_a_ticker_ticks_once_among_the_nodes_and_another_one_continues(make_leasing: MakeLog) -> None:
    log = make_leasing()
    one, two = Hub(log=log), Hub(log=log)
    first = trio.CancelScope()

    async def tick_first() -> None:
        with first:
            await one.run_ticker("clock", every=0.05)

    with trio.fail_after(SECONDS):
        async with running(one), running(two), trio.open_nursery() as nursery:
            async with two.subscribe("clock") as events:
                nursery.start_soon(tick_first)
                before = [(await anext(events)).json() for _ in range(4)]
                ticker = await nursery.start(partial(two.run_ticker, "clock", every=0.05))
                assert ticker.elapsed == pytest.approx(before[-1]["elapsed"], abs=SECONDS)  # type: ignore[index]
                before += [(await anext(events)).json() for _ in range(4)]
                assert ticker.statistics().ticks == 0
                first.cancel()
                await until(lambda: ticker.statistics().ticks > 3)
                ticks = before + [(await anext(events)).json() for _ in range(4)]
            nursery.cancel_scope.cancel()
    numbers = [tick["sequence"] for tick in ticks]  # type: ignore[index]
    times = [tick["time"] for tick in ticks]  # type: ignore[index]
    assert numbers == sorted(set(numbers))
    assert times == sorted(set(times))
    spans = [tick["elapsed"] - 0.05 * tick["sequence"] for tick in ticks]  # type: ignore[index]
    assert max(spans) - min(spans) < 0.01  # elapsed and sequence belong together, on both nodes


async def test_tickers_that_are_no_singletons_tick_on_every_node(make_leasing: MakeLog) -> None:
    log = make_leasing()
    hubs = Hub(log=log), Hub(log=log)
    with trio.fail_after(SECONDS):
        async with running(hubs[0]), running(hubs[1]), trio.open_nursery() as nursery:
            tickers = [
                await nursery.start(partial(hub.run_ticker, "clock", every=0.05, singleton=False))
                for hub in hubs
            ]
            await until(lambda: all(ticker.statistics().ticks > 2 for ticker in tickers))
            nursery.cancel_scope.cancel()


async def test_a_ticker_continues_after_ticks_that_are_none(make_leasing: MakeLog) -> None:
    hub = Hub(log=make_leasing())
    with trio.fail_after(SECONDS):
        async with running(hub), trio.open_nursery() as nursery:
            await hub.publish("clock", {"sequence": "x"})
            await hub.publish("clock", "nothing")
            ticker = await nursery.start(partial(hub.run_ticker, "clock", every=0.05))
            await until(lambda: ticker.statistics().ticks > 2)
            nursery.cancel_scope.cancel()
