"""A client knows where to resume from before its first event, on every host."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from trio_sse import EventDecoder

from ..support import hosts
from ..support.certificates import Certificate
from ..support.hosts import Host, Run, leave_by_reset, until_subscribed
from ..support.leaks import LeakCheck
from ..support.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture(params=hosts.NAMES)
def run(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run one host after the other."""
    return partial(hosts.running, request.param, no_leak, certificate)


async def read_cursor(stream: Any, *, after: str = "") -> str:
    """Read a stream without events until its cursor is another one."""
    decoder = EventDecoder(last_event_id=after)
    while decoder.last_event_id == after:
        data = await stream.read()
        assert data, "the stream is over"
        assert decoder.feed(data) == []
    return decoder.last_event_id


async def left(host: Host) -> None:
    """Wait until nobody is subscribed."""
    await until(lambda: host.hub.statistics().subscriptions == 0)


async def test_what_is_published_before_the_first_event_is_not_lost(run: Run) -> None:
    async with run() as host:
        await host.hub.publish("live", "before the stream")
        async with host.opened("/live") as stream:
            cursor = await read_cursor(stream)
            assert cursor == host.hub.last_event_id
            await leave_by_reset(stream)
        await left(host)
        await host.hub.publish("live", "while it was away")
        async with host.opened("/live", f"Last-Event-ID: {cursor}") as stream:
            await until_subscribed(host)
            await host.hub.publish("live", "later")
            assert [event.data for event in await stream.events(2)] == ["while it was away", "later"]


async def test_the_cursor_of_a_quiet_topic_moves(run: Run) -> None:
    async with run(keepalive=0.1, history=20) as host:
        async with host.opened("/live") as stream:
            cursor = await read_cursor(stream)
            for _ in range(30):
                await host.hub.publish("busy", "x")
            moved = await read_cursor(stream, after=cursor)
            while moved != host.hub.last_event_id:
                moved = await read_cursor(stream, after=moved)
        await left(host)
        async with host.opened("/live", f"Last-Event-ID: {moved}") as stream:
            await until_subscribed(host)
            await host.hub.publish("live", "the next")
            assert (await stream.event()).data == "the next"


async def test_a_poll_without_events_answers_with_a_cursor(run: Run) -> None:
    async with run() as host:
        await host.hub.publish("live", "before")
        first = await host.poll("/live?wait=0")
        assert first == {"events": [], "last_event_id": host.hub.last_event_id}
        await host.hub.publish("live", "between")
        second = await host.poll(f"/live?wait=0&last_event_id={first['last_event_id']}")
        assert [event["data"] for event in second["events"]] == ["between"]


async def test_two_subscriptions_are_resumed_exactly(run: Run) -> None:
    async with run() as host:
        async with host.opened("/pair") as stream:
            cursor = await read_cursor(stream)
            await until_subscribed(host, 2)
        await left(host)
        for number in range(50):
            await host.hub.publish("live", f"live {number}")
            await host.hub.publish("paced", f"paced {number}")
        received: list[str] = []
        while len(received) < 100:
            async with host.opened("/pair", f"Last-Event-ID: {cursor}") as stream:
                for _ in range(min(9, 100 - len(received))):
                    event = await stream.event()
                    received.append(str(event.data))
                    cursor = str(event.id)
                await leave_by_reset(stream)
            await left(host)
        for topic in ("live", "paced"):
            of_topic = [data for data in received if data.startswith(topic)]
            assert of_topic == [f"{topic} {number}" for number in range(50)]
