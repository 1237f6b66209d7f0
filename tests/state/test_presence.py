"""Presence lists of one hub."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Presence

from ..support.leaks import MakeHub
from ..support.serving import running
from .test_state import Reader


async def test_a_member_is_there_while_its_context_is_entered(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    room = hub.presence("room", ttl=10)
    async with running(hub), hub.subscribe("room") as events:
        async with room.join("ada", {"color": "blue"}), room.join("bob"):
            assert room.members == {"ada": {"color": "blue"}, "bob": True}
            await trio.sleep(100)
            assert list(room.members) == ["ada", "bob"]
        await wait_all_tasks_blocked()
        assert room.members == {}
        reader = Reader()
        for expected in ({}, {"ada": {"color": "blue"}}, {"ada": {"color": "blue"}, "bob": True}, {}):
            reader.take(await anext(events))
            assert reader.value == expected


async def test_a_name_that_has_joined_twice_stays_until_both_have_left(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    room = hub.presence("room")
    async with running(hub):
        one, two = room.join("ada", 1), room.join("ada", 2)
        await one.__aenter__()
        await two.__aenter__()
        assert room.members == {"ada": 2}
        await two.__aexit__(None, None, None)
        await wait_all_tasks_blocked()
        assert room.members == {"ada": 1}
        async with room.join("ada", 1):
            pass
        await one.__aexit__(None, None, None)
        await wait_all_tasks_blocked()
        assert room.members == {}


async def test_a_handler_that_is_cancelled_leaves(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub(inbox=1)
    room = hub.presence("room")
    async with running(hub):

        async def visit(name: str) -> None:
            async with room.join(name):
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(visit, f"{number}")
            await wait_all_tasks_blocked()
            assert len(room.members) == 50
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert room.members == {}


async def test_a_member_that_was_touched_expires_unless_it_is_touched_again(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    room = hub.presence("room", ttl=10)
    async with running(hub):
        for _ in range(5):
            await room.touch("ada", 1)
            await room.touch("bob", 2)
            await trio.sleep(8)
        await room.touch("bob", 2)
        await trio.sleep(7)
        assert room.members == {"bob": 2}
        await room.remove("bob")
        await room.remove("bob")
        assert room.members == {}
        await trio.sleep(60)
        assert room.members == {}


async def test_what_cannot_be_a_member_is_refused_and_leaves_nothing(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    room = hub.presence("room")
    with pytest.raises(RuntimeError, match="not running"):
        await room.join("ada").__aenter__()
    name: Any = 7
    async with running(hub):
        for value, refused in ((object(), "ada"), (1, name)):
            with pytest.raises(TypeError):
                await room.join(refused, value).__aenter__()
            with pytest.raises(TypeError):
                await room.touch(refused, value)
        await wait_all_tasks_blocked()
        assert room.members == {}
        async with room.join("ada"):
            room.close()
            await hub.publish("room", "ordinary")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.ClosedResourceError):
            await room.touch("ada")
    for ttl in (0, -1, 0.1, math.nan, math.inf, True, "1"):
        with pytest.raises((ValueError, TypeError)):
            hub.presence("other", ttl=ttl)  # type: ignore[arg-type]
    assert isinstance(hub.presence("other", ttl=0.2), Presence)


async def test_members_stay_when_the_hub_is_run_again(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    room = hub.presence("room", ttl=10)
    async with running(hub):
        await room.touch("ada")
    await trio.sleep(1000)
    async with running(hub):
        await trio.sleep(5)
        assert room.members == {"ada": True}
        await trio.sleep(20)
        assert room.members == {}
