"""What clients on every host have missed when they reconnect."""

from __future__ import annotations

import pytest
import trio

from trio_sse import EndReason

from ...support import hosts
from ...support.hosts import Run
from .observing import numbers_in, publishing, until_longer

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("path", ["/live", "/iterated"])
async def test_a_client_that_reconnects_receives_what_it_missed_and_then_live_events(
    run: Run, path: str
) -> None:
    async with run() as host:
        last, numbers = host.hub.last_event_id, list[int]()
        async with publishing(host) as published:
            for _ in range(4):
                async with host.opened(path, f"Last-Event-ID: {last}") as stream:
                    events = await stream.events(100)
                    numbers += numbers_in(events)
                    last = events[-1].id
                await until_longer(published, 50)
        assert numbers == list(range(1, 401))


async def test_a_slow_consumer_is_cut_and_resumes_when_it_reconnects(run: Run) -> None:
    async with run() as host:
        if not host.promises("a client that lags is cut as a slow consumer"):
            return
        start = host.hub.last_event_id
        async with host.opened("/lagging", held=True) as stream:
            async with publishing(host, size=10_000) as published:
                assert await host.life.wait_ends(1) == [EndReason.SLOW_CONSUMER]
            await hosts.take_all(stream)
            numbers = numbers_in(await stream.rest())
            assert host.is_cut_or_ended(stream)
        async with host.opened("/live", f"Last-Event-ID: {stream.last_event_id or start}") as stream:
            while numbers != published:
                numbers += numbers_in([await stream.event()])
                assert numbers == published[: len(numbers)]


@pytest.mark.parametrize("reason", ["unknown", "expired"])
async def test_a_gap_is_a_reset(run: Run, reason: str) -> None:
    async with run(history=5) as host:
        old = host.hub.last_event_id
        for number in range(10):
            await host.hub.publish("live", f"{number}")
        last = old if reason == "expired" else "0badc0de.7"
        while host.hub.statistics().published < 10:
            await trio.lowlevel.checkpoint()
        async with host.opened("/live", f"Last-Event-ID: {last}") as stream:
            reset = await stream.event()
            assert (reset.event, reset.json()) == ("reset", {"reason": reason})
            await host.hub.publish("live", "after it")
            assert (await stream.event()).data == "after it"
