"""Publishers of a shared log: how long they wait, and what the log does not take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Hub, LogRefused, LogSession, LogUnavailable, Server


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
