"""What the code of an application raises ends nothing but its own call or subscription."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Hub, LogSession, LogUnavailable, Overflow, PatchFormat, Subscription
from trio_sse._containment import contain
from trio_sse._groups import split_failure
from trio_sse._hub.hub import engine_of
from trio_sse._log.memory import Gap
from trio_sse._state.topic import StateTopic
from trio_sse._subscription.subscription import feed_of
from trio_sse._wire.message import Framing

from ..support.leaks import MakeHub
from ..support.raised import Panic, Unprintable
from ..support.serving import running
from ..support.waiting import SECONDS

RAISED = [
    ZeroDivisionError,
    Unprintable,
    RecursionError,
    asyncio.CancelledError,
    GeneratorExit,
    SystemExit,
    Panic,
]
raised = pytest.mark.parametrize("kind", RAISED)


def raising(kind: type[BaseException]) -> Callable[..., Any]:
    def function(*args: object, **kwargs: object) -> Any:
        raise kind

    return function


async def check_it_works(hub: Hub, events: Subscription) -> None:
    with trio.fail_after(SECONDS):
        await hub.publish("t", "next")
        assert (await anext(events)).data == "next"


# dumps


@raised
async def test_dumps_that_raises_fails_only_its_publish(make_hub: MakeHub, kind: type[BaseException]) -> None:
    hub = make_hub(dumps=raising(kind))
    async with running(hub), hub.subscribe("t") as events:
        with pytest.raises(kind):
            hub.publish_nowait("t", {})
        with pytest.raises(kind):
            await hub.publish("t", {})
        with pytest.raises(kind):
            hub.state("s", {})
        assert hub.statistics().inbox_events == 0
        await check_it_works(hub, events)


async def test_dumps_that_returns_a_str_of_its_own_is_taken_by_its_value(make_hub: MakeHub) -> None:
    class Text(str):
        def __contains__(self, item: object) -> bool:
            return False

        def replace(self, *args: object) -> str:
            return "x\n\nid: smuggled"

    hub = make_hub(dumps=lambda data: Text("one\rtwo"))
    async with running(hub), hub.subscribe("t") as events:
        await hub.publish("t", {})
        assert (await anext(events)).data == "one\ntwo"


async def test_dumps_that_returns_no_json_is_refused_for_states(make_hub: MakeHub) -> None:
    hub = make_hub(dumps=lambda data: "<xml/>")
    with pytest.raises(ValueError, match="a state needs a dumps that returns JSON"):
        hub.state("s", {})


# Topics, keys and types


class Odd(str):
    """A text that cannot be a key of a dict, equals nothing, and formats itself as something else."""

    __hash__ = None  # type: ignore[assignment]  # it is hostile

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __str__(self) -> str:
        return "x\n\ndata: smuggled"

    def __format__(self, spec: str) -> str:
        return "x\n\ndata: smuggled"

    def encode(self, *args: object) -> bytes:
        return b"x\n\ndata: smuggled"


class Number(int):
    def __format__(self, spec: str) -> str:
        return "1\n\ndata: smuggled"


@pytest.mark.parametrize("overflow", Overflow)
async def test_odd_texts_are_taken_by_their_value(make_hub: MakeHub, overflow: Overflow) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe(Odd("t"), overflow=overflow) as events:
        for _ in range(2):
            await hub.publish(Odd("t"), Odd("data"), event=Odd("e"), key=Odd("key"), retry=Number(7))
            event = await anext(events)
            assert (event.data, event.event, event.retry) == ("data", "e", 7)
            assert b"smuggled" not in event.encode()
            assert [type(part) for part in (event.data, event.event, event.retry)] == [str, str, int]
        await check_it_works(hub, events)


# A ticker's clock


@asynccontextmanager
async def ticking(hub: Hub, clock: Callable[[], float]) -> AsyncIterator[Subscription]:
    async with running(hub) as nursery, hub.subscribe("time", "t") as events:
        await nursery.start(partial(hub.run_ticker, "time", clock=clock))
        yield events


@pytest.mark.parametrize(
    "fault",
    [
        *(raising(kind) for kind in RAISED),
        *(
            lambda value=value: value
            for value in (None, "now", True, math.nan, math.inf, -1.0, 1e300, 10**400)
        ),
    ],
)
async def test_a_clock_that_fails_is_replaced_by_the_time_that_passes(
    make_hub: MakeHub, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, fault: Callable[[], float]
) -> None:
    now = [1_000_000.0]
    is_broken = False

    def clock() -> float:
        return fault() if is_broken else now[0] + trio.current_time()

    hub = make_hub()
    now[0] -= trio.current_time()
    async with ticking(hub, clock) as events:
        ticks: list[Any] = [(await anext(events)).json()]
        is_broken = True
        ticks += [(await anext(events)).json() for _ in range(3)]
        is_broken = False
        ticks.append((await anext(events)).json())
        assert [tick["elapsed"] for tick in ticks] == [1, 2, 3, 4, 5]
        assert [tick.get("stepped") for tick in ticks] == [None] * 5
        hub.publish_nowait("t", "next")
        assert (await anext(events)).data == "next"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@raised
async def test_a_clock_that_fails_at_once_fails_only_its_ticker(
    make_hub: MakeHub, kind: type[BaseException]
) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t") as events:
        with pytest.raises(kind):
            await hub.run_ticker("time", clock=raising(kind))
        await check_it_works(hub, events)


class AwayLog:
    """A log that never answers."""

    publish_timeout = 2.5

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        raise LogUnavailable("away")
        yield


async def test_a_ticker_outlives_an_outage_of_the_log(autojump_clock: MockClock) -> None:
    hub = Hub(log=AwayLog())
    async with running(hub) as nursery:
        ticker = await nursery.start(
            partial(hub.run_ticker, "time", clock=trio.current_time, singleton=False)
        )
        await trio.sleep(20)
        assert ticker.statistics().ticks <= 1  # the one that waits
        assert ticker.statistics().skipped >= 15


# States


@raised
@pytest.mark.parametrize("interval", [None, 0.1])
async def test_a_patch_that_can_not_be_made_is_a_snapshot(
    make_hub: MakeHub,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
    interval: float | None,
) -> None:
    make = StateTopic.__init__

    def broken(self: StateTopic, *args: Any) -> None:
        make(self, *args)
        self._diff = raising(kind)

    monkeypatch.setattr(StateTopic, "__init__", broken)
    hub = make_hub()
    state = hub.state("s", {"n": 0, "text": "x" * 100})
    async with running(hub), hub.subscribe("s", interval=interval) as events, hub.subscribe("t") as others:
        await anext(events)
        for number in range(1, 4):
            await state.update({"n": number})
            event = await anext(events)
            assert (event.event, event.json()) == ("snapshot", state.value)
        await check_it_works(hub, others)


@pytest.mark.parametrize("patch", PatchFormat)
@pytest.mark.parametrize("interval", [None, 0.1])
async def test_a_state_that_is_nested_deeply_ends_nothing(
    make_hub: MakeHub, autojump_clock: MockClock, patch: PatchFormat, interval: float | None
) -> None:
    hub = make_hub()
    state = hub.state("s", {}, patch=patch)
    async with running(hub), hub.subscribe("s", interval=interval) as events, hub.subscribe("t") as others:
        await anext(events)
        for depth in (10, 98, 99, 150, 900, 100_000):
            value: list[Any] = []
            for _ in range(depth):
                value = [value, "x" * 10]
            if depth > 98:
                with pytest.raises(ValueError, match="a state is nested at most 100 levels deep"):
                    await state.set({"n": value})
            else:
                await state.set({"n": value})
                await anext(events)
            while value:  # since Python frees it by recursion
                value = value[0]
        await check_it_works(hub, others)


# Subscribers


class BrokenWriter:
    """A transport that breaks its promise never to raise."""

    framing = Framing.PLAIN
    pending = None

    def __init__(self, kind: type[BaseException]) -> None:
        self.begin_send = raising(kind)


async def forward(hub: Hub, writer: Any, ended: list[str], **options: Any) -> None:
    async with hub.subscribe("t", **options) as events:
        await feed_of(events).forward_to(writer)
        ended.append(repr(events))


@raised
@pytest.mark.parametrize("options", [{}, {"interval": 0.1}, {"batch": 0.1}])
async def test_a_delivery_that_raises_ends_its_subscription_only(
    make_hub: MakeHub, autojump_clock: MockClock, kind: type[BaseException], options: dict[str, Any]
) -> None:
    hub = make_hub()
    ended: list[str] = []
    async with running(hub) as nursery, hub.subscribe("t", **options) as events:
        nursery.start_soon(partial(forward, hub, BrokenWriter(kind), ended, **options))
        await wait_all_tasks_blocked()
        await check_it_works(hub, events)
        await check_it_works(hub, events)
        assert len(ended) == 1
        assert "overflowed" in ended[0]


@raised
async def test_a_reset_that_can_not_be_delivered_ends_its_subscription_only(
    make_hub: MakeHub, kind: type[BaseException]
) -> None:
    hub = make_hub()
    ended: list[str] = []
    async with running(hub) as nursery, hub.subscribe("t") as events:
        nursery.start_soon(forward, hub, BrokenWriter(kind), ended)
        await wait_all_tasks_blocked()
        engine_of(hub).registry.announce_gap(Gap.UNKNOWN)
        assert (await anext(events)).event == "reset"
        await check_it_works(hub, events)
        assert len(ended) == 1


@raised
async def test_hooks_that_raise_end_nothing_else(
    make_hub: MakeHub, autojump_clock: MockClock, kind: type[BaseException]
) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t") as events, hub.subscribe("t", queue=1) as slow:
        feed_of(slow).forwarder = Mock(on_overflow=raising(kind))
        for number in range(3):
            await hub.publish("t", str(number))
            assert (await anext(events)).data == str(number)
        assert feed_of(slow).has_overflowed
        await check_it_works(hub, events)


@raised
async def test_an_act_between_two_batches_that_raises_ends_nothing_else(
    make_hub: MakeHub, kind: type[BaseException]
) -> None:
    hub = make_hub()
    acts: list[str] = []
    pump = engine_of(hub).pump
    async with running(hub), hub.subscribe("t") as events:
        pump._is_delivering = True
        pump.when_settled(raising(kind))
        pump.when_settled(lambda: acts.append("second"))
        await check_it_works(hub, events)
        await wait_all_tasks_blocked()
        assert acts == ["second"]
        await check_it_works(hub, events)


async def test_what_an_update_publishes_does_not_take_its_turn(make_hub: MakeHub) -> None:
    hub = make_hub(inbox=1)
    state = hub.state("s", {"n": 0})
    refused: list[trio.WouldBlock] = []

    def publish(value: object) -> dict[str, object]:
        try:
            hub.publish_nowait("t", "of the update")
        except trio.WouldBlock as error:
            refused.append(error)
        return {"n": 1}

    async with running(hub), hub.subscribe("t") as events:
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                for _ in range(3):  # each but one of them waits for room
                    nursery.start_soon(state.update, publish)
        assert state.value == {"n": 1}
        assert refused
        await hub.publish("t", "last")
        with trio.fail_after(SECONDS):
            received = [(await anext(events)).data]
            while received[-1] != "last":
                received.append((await anext(events)).data)
        assert len(received) <= 4


# What passes


@pytest.mark.parametrize("group", [False, True])
def test_keyboard_interrupt_passes(caplog: pytest.LogCaptureFixture, *, group: bool) -> None:
    failure: BaseException = KeyboardInterrupt()
    if group:
        failure = BaseExceptionGroup("", [failure, ZeroDivisionError()])
    with pytest.raises(BaseExceptionGroup if group else KeyboardInterrupt) as raised:
        contain(failure, "failed")
    passing, rest = split_failure(raised.value)
    assert passing is not None
    assert rest is None
    assert len(caplog.records) == group


async def test_cancellation_passes() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except BaseException as failure:
            contain(failure, "failed")
    assert scope.cancelled_caught
