"""Shared time: ticks on the wall clock, even when that is set, and the same for all clients."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_sse._hub.ticker as ticker_module
from trio_sse import Hub, Server, Ticker, TickerStatistics
from trio_sse.testing import Client

from ..support.leaks import MakeHub
from ..support.serving import running

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp()


class WallClock:
    """A clock that follows Trio's, and can be set."""

    def __init__(self, now: float = NOON) -> None:
        self._zero = now - trio.current_time()

    def __call__(self) -> float:
        return self._zero + trio.current_time()

    def step(self, seconds: float) -> None:
        self._zero += seconds


@asynccontextmanager
async def ticking(
    hub: Hub, topic: str = "time", **options: Any
) -> AsyncIterator[tuple[Ticker, trio.MemoryReceiveChannel[dict[str, Any]]]]:
    """Run a hub and a ticker; yield the ticker and a channel of its ticks."""
    send, receive = trio.open_memory_channel[dict[str, Any]](math.inf)

    async def follow(*, task_status: trio.TaskStatus[None]) -> None:
        async with hub.subscribe(topic) as events:
            task_status.started()
            async for event in events:
                tick: Any = event.json()
                send.send_nowait({"event": event.event, **tick})

    async with running(hub) as nursery:
        await nursery.start(follow)
        ticker = await nursery.start(partial(hub.run_ticker, topic, **options))
        yield ticker, receive
        nursery.cancel_scope.cancel()


def instants(ticks: list[dict[str, Any]]) -> list[str]:
    """Return the time of each tick, without the date."""
    return [tick["time"].partition("T")[2] for tick in ticks]


async def test_ticks_fall_on_whole_seconds_of_the_wall_clock(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    async with ticking(make_hub(), clock=WallClock(NOON + 29.6)) as (ticker, ticks):
        began_at = trio.current_time()
        first = await ticks.receive()
        assert trio.current_time() - began_at == pytest.approx(0.4, abs=1e-3)
        assert first == {
            "event": "tick",
            "sequence": 1,
            "time": "2030-01-01T12:00:30.000Z",
            "elapsed": 0.4,
            "server_time": round((NOON + 30) * 1000),
        }
        assert instants([await ticks.receive() for _ in range(2)]) == ["12:00:31.000Z", "12:00:32.000Z"]
        assert ticker.elapsed == pytest.approx(2.4, abs=1e-3)
        assert ticker.statistics() == TickerStatistics(ticks=3, skipped=0, steps=0, sequence=3)


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (15, ["12:00:15.000Z", "12:00:30.000Z", "12:00:45.000Z"]),
        (0.5, ["12:00:07.500Z", "12:00:08.000Z", "12:00:08.500Z"]),
        (3600, ["13:00:00.000Z", "14:00:00.000Z", "15:00:00.000Z"]),
        (86_400, ["00:00:00.000Z"] * 3),
    ],
)
async def test_ticks_fall_on_multiples_of_the_interval(
    make_hub: MakeHub, autojump_clock: MockClock, every: float, expected: list[str]
) -> None:
    async with ticking(make_hub(), every=every, clock=WallClock(NOON + 7.1)) as (_, ticks):
        assert instants([await ticks.receive() for _ in range(3)]) == expected


@pytest.mark.slow
async def test_ticks_do_not_drift(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    clock = WallClock()
    async with ticking(make_hub(), every=0.1, clock=clock, reference=NOON) as (_, ticks):
        for number in range(1, 2001):
            tick = await ticks.receive()
            assert tick["elapsed"] == round(number / 10, 3)
            assert tick["time"].endswith(f".{number % 10}00Z")
            assert tick["server_time"] == round((NOON + number / 10) * 1000)
        assert clock() - NOON == pytest.approx(200, abs=1e-3)


async def test_a_client_that_joins_later_sees_the_same_ticks(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with ticking(hub, reference=NOON, clock=WallClock()) as (ticker, ticks):
        await trio.sleep(29.5)
        assert ticker.elapsed == pytest.approx(29.5)  # what a page that is rendered now begins with
        while ticks.statistics().current_buffer_used:
            await ticks.receive()
        async with hub.subscribe("time") as later:
            event = await anext(later)
        tick: Any = event.json()
        assert {"event": event.event, **tick} == await ticks.receive()
        assert (tick["elapsed"], tick["time"]) == (30.0, "2030-01-01T12:00:30.000Z")


async def test_streams_deliver_the_same_ticks(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    server = Server(hub=make_hub())

    @server.route("/time")
    async def time(connection: Any) -> None:
        await connection.subscribe("time")

    async with Client(server) as client, trio.open_nursery() as nursery:
        ticker = partial(server.hub.run_ticker, "time", clock=WallClock(), reference=NOON)
        await nursery.start(ticker)
        async with client.stream("/time") as early:
            await early.events(3)
            async with client.stream("/time") as late:
                assert await late.event() == await early.event()
        nursery.cancel_scope.cancel()


# When it is late


async def test_ticks_whose_time_has_passed_are_skipped_and_counted(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    async with ticking(make_hub(), clock=WallClock(), reference=NOON) as (ticker, ticks):
        await ticks.receive()
        autojump_clock.jump(4.7)  # nothing ran for so long
        late, next_one = [await ticks.receive() for _ in range(2)]
        assert (late["sequence"], late["elapsed"], late["time"]) == (5, 5.0, "2030-01-01T12:00:05.000Z")
        assert late["server_time"] == pytest.approx((NOON + 5.7) * 1000, abs=2)  # so pages are not misled
        assert (next_one["sequence"], next_one["elapsed"]) == (6, 6.0)
        assert ticker.statistics() == TickerStatistics(ticks=3, skipped=3, steps=0, sequence=6)


async def test_a_full_inbox_delays_ticks_but_not_their_time(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    clock = WallClock()
    waits = trio.Event()

    class SlowHub:
        async def publish(self, topic: str, data: object, *, event: str | None) -> None:
            published.append(json.loads(json.dumps(data)))
            if len(published) == 1:
                await trio.sleep(2.5)
            if len(published) == 3:
                waits.set()

    published: list[dict[str, Any]] = []
    ticker = Ticker("t", SlowHub().publish, every=1, event=None, reference=NOON, clock=clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        await waits.wait()
        nursery.cancel_scope.cancel()
    assert [tick["elapsed"] for tick in published] == [1.0, 3.0, 4.0]
    assert [tick["sequence"] for tick in published] == [1, 3, 4]


# When the wall clock is set


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        (+3600, "13:00:03.000Z"),
        (-3600, "11:00:03.000Z"),
        (+5.4, "12:00:08.000Z"),
        (-1.7, "12:00:01.000Z"),
        (+86_400 * 400, "12:00:03.000Z"),
    ],
)
async def test_a_step_moves_the_ticks_is_reported_and_does_not_change_elapsed(
    make_hub: MakeHub, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, step: float, shown: str
) -> None:
    clock = WallClock()
    async with ticking(make_hub(), clock=clock, reference=NOON) as (ticker, ticks):
        for _ in range(2):
            await ticks.receive()
        begun_at = clock() - 2 + step  # by the clock as it is set now
        clock.step(step)
        with caplog.at_level(logging.WARNING, "trio_sse.hub"):
            reported = await ticks.receive()
        assert instants([reported]) == [shown]
        assert reported["stepped"] == pytest.approx(step, abs=1e-3)
        at = datetime.fromisoformat(reported["time"]).timestamp()
        assert reported["elapsed"] == pytest.approx(at - begun_at, abs=2e-3)
        assert 2 < reported["elapsed"] <= ticker.elapsed <= 3.01
        assert "the wall clock was stepped by" in caplog.text
        after = await ticks.receive()
        assert "stepped" not in after
        assert after["sequence"] == reported["sequence"] + 1 == 4  # none was left out
        assert after["elapsed"] - reported["elapsed"] == pytest.approx(1, abs=2e-3)
        assert ticker.statistics() == TickerStatistics(ticks=4, skipped=0, steps=1, sequence=4)


async def test_steps_before_a_tick_are_reported_as_one(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    clock = WallClock()
    async with ticking(make_hub(), every=3600, clock=clock) as (ticker, ticks):
        clock.step(+100)
        await trio.sleep(90)
        clock.step(-40)
        tick = await ticks.receive()
        assert tick["stepped"] == pytest.approx(60)
        assert ticker.statistics().steps == 2


@pytest.mark.parametrize(("step", "hour"), [(+1800, 13), (-1800, 12), (+2990, 13)])
async def test_a_long_interval_follows_a_step_within_a_minute(
    make_hub: MakeHub, autojump_clock: MockClock, step: float, hour: int
) -> None:
    clock = WallClock()
    async with ticking(make_hub(), every=3600, clock=clock, reference=NOON) as (_, ticks):
        await trio.sleep(601)
        clock.step(step)
        tick = await ticks.receive()
        assert instants([tick]) == [f"{hour}:00:00.000Z"]
        late = clock() - NOON - (hour - 12) * 3600
        assert 0 <= late < (60 if step == 2990 else 1e-3)  # that one took it past the tick's time
        assert tick["elapsed"] == pytest.approx((hour - 12) * 3600 - step)


async def test_a_clock_that_is_slewed_has_not_been_stepped(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    clock = WallClock()
    async with ticking(make_hub(), clock=clock) as (ticker, ticks):
        for _ in range(20):
            clock.step(-0.01)
            assert "stepped" not in await ticks.receive()
        assert ticker.statistics().steps == 0


# References


@pytest.mark.parametrize(
    "reference",
    [
        NOON - 90,
        int(NOON) - 90,
        datetime(2030, 1, 1, 11, 58, 30, tzinfo=UTC),
        datetime(2030, 1, 1, 13, 58, 30, tzinfo=timezone(timedelta(hours=2))),
    ],
)
async def test_elapsed_counts_from_the_reference(
    make_hub: MakeHub, autojump_clock: MockClock, reference: datetime | float
) -> None:
    async with ticking(make_hub(), reference=reference, clock=WallClock()) as (ticker, ticks):
        assert ticker.elapsed == pytest.approx(90)
        assert (await ticks.receive())["elapsed"] == 91.0


async def test_a_reference_may_lie_in_the_future(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    async with ticking(make_hub(), reference=NOON + 2, clock=WallClock()) as (_, ticks):
        assert [(await ticks.receive())["elapsed"] for _ in range(3)] == [-1.0, 0.0, 1.0]


# Its lifetime, and what is refused


async def test_one_topic_has_one_ticker(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    async with ticking(hub, clock=WallClock()):
        with pytest.raises(RuntimeError, match="topic 'time' has a ticker already"):
            await hub.run_ticker("time")
        with trio.move_on_after(2.5):
            await hub.run_ticker("other", clock=WallClock())


async def test_a_cancelled_ticker_leaves_its_topic_to_another(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with running(hub):
        for _ in range(2):
            with trio.move_on_after(3.5) as scope:
                await hub.run_ticker("time", clock=WallClock())
            assert scope.cancelled_caught
        assert hub.statistics().published == 6


async def test_a_type_of_its_own_or_none(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    for event in ("second", None):
        async with ticking(make_hub(), event=event, clock=WallClock()) as (_, ticks):
            assert (await ticks.receive())["event"] == event


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"every": 0}, ValueError),
        ({"every": 0.009}, ValueError),
        ({"every": -1}, ValueError),
        ({"every": math.nan}, ValueError),
        ({"every": math.inf}, ValueError),
        ({"every": 86_401}, ValueError),
        ({"every": "1"}, TypeError),
        ({"every": True}, TypeError),
        ({"reference": "noon"}, TypeError),
        ({"reference": math.nan}, TypeError),
        ({"reference": True}, TypeError),
        ({"reference": datetime(2030, 1, 1)}, ValueError),
        ({"event": "two\nlines"}, ValueError),
        ({"event": 1}, TypeError),
    ],
)
async def test_bad_options_are_refused_at_once(
    make_hub: MakeHub, autojump_clock: MockClock, options: dict[str, Any], error: type[Exception]
) -> None:
    hub = make_hub()
    async with running(hub):
        began_at = trio.current_time()
        with pytest.raises(error):
            await hub.run_ticker("time", **options)
        assert trio.current_time() == began_at
        with trio.move_on_after(1.5):  # the topic is not taken
            await hub.run_ticker("time")


async def test_a_ticker_needs_a_running_hub(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    with pytest.raises(RuntimeError, match="not running"):
        await hub.run_ticker("time", every=86_400)
    async with running(hub):
        hub.state("state", {})
        with pytest.raises(ValueError, match="is a state"):
            await hub.run_ticker("state", every=86_400)
        with pytest.raises(ValueError, match="topic"):
            await hub.run_ticker("", every=86_400)
    with pytest.raises(trio.ClosedResourceError):
        await hub.run_ticker("time", every=86_400)


async def test_the_sleep_of_the_machine_is_part_of_elapsed(
    make_hub: MakeHub, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = 5.0  # before the ticker began
    monkeypatch.setattr(ticker_module, "seconds_suspended", lambda: slept)
    clock = WallClock()
    async with ticking(make_hub(), clock=clock) as (ticker, ticks):
        assert (await ticks.receive())["elapsed"] == 1
        clock.step(3600)
        slept += 3600
        tick = await ticks.receive()
        assert tick["elapsed"] == pytest.approx(3602, abs=1)
        assert "stepped" not in tick
        assert ticker.elapsed == pytest.approx(tick["elapsed"], abs=1)
        clock.step(-60)  # and then the clock is set
        ticked = [await ticks.receive() for _ in range(2)]
        assert -60 in [tick.get("stepped") for tick in ticked]
        assert ticked[-1]["elapsed"] == pytest.approx(3604, abs=1)
        assert ticker.statistics().steps == 1
