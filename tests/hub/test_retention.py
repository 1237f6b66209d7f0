"""What clients of quiet and busy topics receive when they reconnect."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from trio_sse import Hub, Retention
from trio_sse._hub.hub import engine_of
from trio_sse._wire.topic import TopicError

from ..support.cases import each_case
from ..support.clocks import StoppedClock
from ..support.leaks import MakeHub
from ..support.serving import running
from ..support.subscriptions import publish, take, take_waiting


def stop_clock(hub: Hub) -> StoppedClock:
    """Let the hub's log use a clock that the test sets."""
    log = engine_of(hub).log
    log._clock = StoppedClock()
    return log._clock


async def test_a_client_of_a_quiet_topic_receives_no_reset_for_what_a_busy_one_lost(
    make_hub: MakeHub,
) -> None:
    hub = make_hub(history=20)
    async with running(hub):
        await publish(hub, "first", topic="quiet")
        cursor = hub.last_event_id
        await publish(hub, "missed", topic="quiet")
        await publish(hub, *range(200), topic="busy")
        async with hub.subscribe("quiet", last_event_id=cursor) as subscription:
            await publish(hub, "live", topic="quiet")
            assert await take_waiting(subscription) == ["missed", "live"]
        async with hub.subscribe("quiet", "busy", last_event_id=cursor) as subscription:
            (reset,) = await take(subscription, 1)
            assert (reset.event, reset.json()) == ("reset", {"reason": "expired"})
    assert hub.statistics().resets == 1


async def test_topics_have_bounds_of_their_own(make_hub: MakeHub) -> None:
    hub = make_hub(retention=MappingProxyType({"clock": Retention(events=1), "room/*": Retention(events=2)}))
    async with running(hub):
        for number in range(5):
            for topic in ("clock", "room/a", "other"):
                await publish(hub, number, topic=topic)
        for topic, expected in (("clock", "4"), ("room/a", "34"), ("other", "01234")):
            cursor = hub.first_event_id_of(topic)
            async with hub.subscribe(topic, last_event_id=cursor) as subscription:
                assert await take_waiting(subscription) == list(expected)
        statistics = hub.statistics()
    assert (statistics.log_events, statistics.log_topics, statistics.evicted) == (8, 3, 7)
    assert statistics.resets == 0


async def test_old_events_expire_while_nothing_is_published(make_hub: MakeHub) -> None:
    hub = make_hub(retention={"news": Retention(age=10)})
    clock = stop_clock(hub)
    async with running(hub):
        await publish(hub, "old", topic="news")
        cursor = hub.first_event_id_of("news")
        async with hub.subscribe("news", last_event_id=cursor) as subscription:
            assert await take_waiting(subscription) == ["old"]
        clock.now = 10
        async with hub.subscribe("news", last_event_id=cursor) as subscription:
            assert [event.event for event in await take(subscription, 1)] == ["reset"]
        assert hub.statistics().log_events == 0
        async with hub.subscribe("other", last_event_id=cursor) as subscription:
            assert await take_waiting(subscription) == []


async def test_events_that_expire_during_a_replay_are_a_reset(make_hub: MakeHub) -> None:
    hub = make_hub(retention={"t": Retention(age=10)})
    clock = stop_clock(hub)
    async with running(hub):
        await publish(hub, *range(300))
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as subscription:
            first = await take(subscription, 256)  # a page
            clock.now = 11
            (reset,) = await take(subscription, 1)
            await publish(hub, "live")
            assert await take_waiting(subscription) == ["live"]
    assert [event.data for event in first] == [str(number) for number in range(256)]
    assert (reset.event, reset.json()) == ("reset", {"reason": "expired"})


async def test_the_oldest_cursor_of_all_topics_never_leads_to_a_reset(make_hub: MakeHub) -> None:
    hub = make_hub(history=4)
    async with running(hub):
        for topic in ("a", "b", "b", "b", "b", "b"):
            await publish(hub, topic, topic=topic)
        async with hub.subscribe("a", "b", "c", last_event_id=hub.first_event_id) as subscription:
            assert await take_waiting(subscription) == ["b"] * 3
        with pytest.raises(TopicError):
            hub.first_event_id_of()
        assert hub.first_event_id_of("a", "b") == hub.first_event_id
        assert hub.first_event_id_of("a") != hub.first_event_id


@each_case("retention", [None, [], {"t": 5}, {"t": {"events": 5}}, {3: Retention()}])
def test_retention_that_is_none(retention: Any) -> None:
    with pytest.raises(TypeError, match="retention"):
        Hub(retention=retention)
