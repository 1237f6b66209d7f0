"""Events that say their topic, on every host: live, replayed, and polled."""

from __future__ import annotations

import pytest

from ...support.hosts import Run, until_subscribed

pytestmark = pytest.mark.integration


async def test_events_say_their_topic(run: Run) -> None:
    published = [("live", "1"), ("other", "2"), ("live", "3\n4")]
    async with run() as host:
        async with host.opened("/topics") as stream:
            await until_subscribed(host)
            for topic, data in published:
                await host.hub.publish(topic, data, event="tick")
            events = await stream.events(3)
        assert [(event.topic, event.data) for event in events] == published
        async with host.opened("/topics", f"Last-Event-ID: {events[0].id}") as stream:
            events = await stream.events(2)
        assert [(event.topic, event.data) for event in events] == published[1:]
        answer = await host.poll(f"/topics?wait=0&last_event_id={events[0].id}")
        assert [(event["topic"], event["data"]) for event in answer["events"]] == published[2:]
