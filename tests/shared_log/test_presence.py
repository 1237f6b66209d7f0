"""Presence lists over a shared log: all nodes show the same members, and nodes that die take theirs along."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Hub, Log, LogUnavailable, Presence

from ..support.logs import SHARED, MakeLog, logs
from ..support.serving import running
from ..support.waiting import SECONDS
from .test_foreign_logs import ListLog


@pytest.fixture(params=SHARED)
async def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeLog]:
    async with logs(request.param, tmp_path) as make:
        yield make


@asynccontextmanager
async def node(log: Log, ttl: float) -> AsyncIterator[Presence]:
    hub = Hub(log=log)
    room = hub.presence("room", ttl=ttl)
    async with running(hub):
        yield room


async def wait_for(room: Presence, members: dict[str, object]) -> None:
    with trio.fail_after(SECONDS):
        while room.members != members:  # noqa: ASYNC110  # another node
            await trio.sleep(0.005)


@pytest.mark.integration
async def test_all_nodes_show_the_members_of_all(make_log: MakeLog) -> None:
    async with node(make_log(), 1) as one, node(make_log(), 1) as two:
        async with one.join("ada", 1), two.join("bob", 2):
            for room in (one, two):
                await wait_for(room, {"ada": 1, "bob": 2})
            async with node(make_log(), 1) as three:
                assert three.members == {"ada": 1, "bob": 2}
                await trio.sleep(3)  # three times the ttl
                assert three.members == {"ada": 1, "bob": 2}
        for room in (one, two):
            await wait_for(room, {})


@pytest.mark.integration
async def test_the_members_of_a_node_that_has_died_leave(make_log: MakeLog) -> None:
    async with AsyncExitStack() as dead, node(make_log(), 0.5) as one:
        async with node(make_log(), 0.5) as two:
            await dead.enter_async_context(two.join("ada"))
            async with one.join("bob"):
                await wait_for(one, {"ada": True, "bob": True})
                await two.touch("eve")
        await wait_for(one, {})


async def test_a_name_on_two_nodes_stays_until_it_has_left_both(autojump_clock: MockClock) -> None:
    log = ListLog()
    async with node(log, 10) as one, node(log, 10) as two, AsyncExitStack() as stack:
        await stack.enter_async_context(one.join("ada", 1))
        async with two.join("ada", 2):
            await trio.sleep(1)
            assert one.members == {"ada": 2}
        for _ in range(20):
            await trio.sleep(1)
            assert one.members == two.members == {"ada": 2}
        await stack.aclose()
        await trio.sleep(1)
        assert one.members == two.members == {}


@pytest.mark.slow
async def test_an_outage_of_the_log_removes_nobody(autojump_clock: MockClock) -> None:
    def away() -> None:
        raise LogUnavailable("it is away")

    log = ListLog()
    async with node(log, 10) as one, node(log, 10) as two, one.join("ada"), two.join("bob"):
        await trio.sleep(30)
        log.broken.update(append=away, read=away, connect=away)
        await trio.sleep(300)
        log.broken.clear()
        for _ in range(100):
            await trio.sleep(0.5)
            assert one.members == two.members == {"ada": True, "bob": True}


async def test_a_member_that_others_have_removed_comes_back(autojump_clock: MockClock) -> None:
    log = ListLog()
    async with node(log, 10) as one, node(log, 10) as two, one.join("ada"):
        await trio.sleep(1)
        await two.remove("ada")
        await trio.sleep(5)
        assert one.members == two.members == {"ada": True}


async def test_other_programs_remove_nobody(autojump_clock: MockClock) -> None:
    log = ListLog()
    async with node(log, 10) as one, one.join("ada"):
        for text in (
            "7",
            '"text"',
            "[]",
            '["n",1,[],{}]',
            '["n","x",{"room":7},{}]',
            '["n",1,{},{"room":["ada"]}]',
        ):
            escaped = text.replace('"', '\\"')
            log.add(f'["presence","{escaped}",null,null,null,"m",["presence",null,""]]'.encode())
        await trio.sleep(30)
        assert one.members == {"ada": True}
