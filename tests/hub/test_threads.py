"""A hub belongs to one thread: others are refused before anything is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from trio_sse import Hub, State, Subscription
from trio_sse._hub.hub import engine_of
from trio_sse.sqlite import SQLiteLog

from ..support.leaks import MakeHub
from ..support.serving import running
from ..support.waiting import SECONDS

REFUSED = r"trio\.from_thread\.run_sync\(.*trio\.from_thread\.run\("


@pytest.fixture(params=["memory", "sqlite"])
def hub(request: pytest.FixtureRequest, make_hub: MakeHub, tmp_path: Path) -> Hub:
    return make_hub(log=None if request.param == "memory" else SQLiteLog(tmp_path / "log.db"))


def in_trio(function: Callable[[], Awaitable[object]]) -> None:
    async def main() -> None:
        await function()

    trio.run(main)


def in_asyncio(function: Callable[[], Awaitable[object]]) -> None:
    async def main() -> None:
        await function()

    asyncio.run(main())


async def check_it_works(hub: Hub, events: Subscription) -> None:
    """Publish and receive, and check that nothing was left over by what was refused."""
    before = hub.statistics()
    assert (before.inbox_events, before.inbox_bytes) == (0, 0)
    with trio.fail_after(SECONDS):
        for number in range(5):
            await hub.publish("t", str(number))
        hub.publish_nowait("t", "5")
        assert [(await anext(events)).data for _ in range(6)] == list("012345")
    assert hub.statistics().published == before.published + 6


async def test_publish_nowait_in_a_thread(hub: Hub) -> None:
    async with running(hub), hub.subscribe("t") as events:
        for _ in range(3):
            with pytest.raises(RuntimeError, match=REFUSED):
                await trio.to_thread.run_sync(hub.publish_nowait, "t", "x")
        await check_it_works(hub, events)


@pytest.mark.parametrize("run", [in_trio, in_asyncio])
async def test_publish_in_another_event_loop(
    hub: Hub, run: Callable[[Callable[[], Awaitable[object]]], None]
) -> None:
    async def publish_nowait() -> None:
        hub.publish_nowait("t", "x")

    async with running(hub), hub.subscribe("t") as events:
        for function in (lambda: hub.publish("t", "x"), publish_nowait, lambda: hub.revoke("ada")):
            with pytest.raises(RuntimeError, match=REFUSED):
                await trio.to_thread.run_sync(run, function)
        await check_it_works(hub, events)


@pytest.mark.parametrize("run", [in_trio, in_asyncio])
async def test_a_publisher_that_waits_for_room_is_refused_in_another_event_loop(
    make_hub: MakeHub, run: Callable[[Callable[[], Awaitable[object]]], None]
) -> None:
    hub = make_hub(inbox=1)
    async with running(hub), hub.subscribe("t") as events:
        hub.publish_nowait("t", "first")
        with pytest.raises(RuntimeError, match=REFUSED):
            await trio.to_thread.run_sync(run, lambda: hub.publish("t", "x"))
        assert engine_of(hub).inbox.waiting_publishers == 0
        assert (await anext(events)).data == "first"


@pytest.mark.parametrize("run", [in_trio, in_asyncio])
async def test_a_subscription_in_another_event_loop(
    hub: Hub, run: Callable[[Callable[[], Awaitable[object]]], None]
) -> None:
    async def enter() -> None:
        async with hub.subscribe("t"):
            raise AssertionError("it was entered")

    async with running(hub), hub.subscribe("t") as events:
        hub.publish_nowait("t", "first")
        leave = events.__aexit__
        for function in (enter, lambda: anext(events), lambda: leave(None, None, None)):
            with pytest.raises(RuntimeError, match=REFUSED):
                await trio.to_thread.run_sync(run, function)
        assert hub.statistics().subscriptions == 1
        assert (await anext(events)).data == "first"
        await check_it_works(hub, events)


async def test_a_ticker_in_another_event_loop(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t") as events:
        for run in (in_trio, in_asyncio):
            with pytest.raises(RuntimeError, match=REFUSED):
                await trio.to_thread.run_sync(run, lambda: hub.run_ticker("t", every=1))
        await check_it_works(hub, events)


def calls_of(hub: Hub, state: State) -> list[Callable[[], object]]:
    return [
        lambda: state.set_nowait({"n": 1}),
        lambda: state.update_nowait({"n": 1}),
        state.close,
        lambda: hub.state("another", {}),
    ]


async def test_a_state_in_a_thread(make_hub: MakeHub) -> None:
    hub = make_hub()
    state = hub.state("s", {"n": 0})
    async with running(hub), hub.subscribe("s") as events:
        assert (await anext(events)).event == "snapshot"
        for call in calls_of(hub, state):
            with pytest.raises(RuntimeError, match=REFUSED):
                await trio.to_thread.run_sync(call)
        assert (state.value, state.is_closed, state.topic) == ({"n": 0}, False, "s")
        await state.update({"n": 2})
        assert (await anext(events)).json() == {"n": 2}
        hub.state("another", {})


@pytest.mark.parametrize("run", [in_trio, in_asyncio])
async def test_a_state_in_another_event_loop(
    make_hub: MakeHub, run: Callable[[Callable[[], Awaitable[object]]], None]
) -> None:
    hub = make_hub()
    state = hub.state("s", {"n": 0})
    async with running(hub):
        for function in (lambda: state.set({"n": 1}), lambda: state.update({"n": 1})):
            with pytest.raises(RuntimeError, match=REFUSED):
                await trio.to_thread.run_sync(run, function)
        assert state.value == {"n": 0}


async def test_from_thread_publishes(hub: Hub) -> None:
    def publish() -> None:
        trio.from_thread.run_sync(hub.publish_nowait, "t", "one")
        trio.from_thread.run(hub.publish, "t", "two")

    async with running(hub), hub.subscribe("t") as events:
        await trio.to_thread.run_sync(publish)
        with trio.fail_after(SECONDS):
            assert [(await anext(events)).data for _ in range(2)] == ["one", "two"]


async def test_what_only_reads_is_for_all_threads(hub: Hub) -> None:
    async with running(hub), hub.subscribe("t"):
        statistics, cursor = await trio.to_thread.run_sync(lambda: (hub.statistics(), hub.last_event_id))
        assert (statistics, cursor) == (hub.statistics(), hub.last_event_id)


def test_a_hub_may_run_in_one_thread_after_the_other() -> None:
    hub = Hub()

    async def run_once() -> None:
        async with running(hub), hub.subscribe("t") as events:
            await check_it_works(hub, events)

    async def main() -> None:
        await run_once()
        await trio.to_thread.run_sync(trio.run, run_once)
        await run_once()

    trio.run(main)
