"""Replay of what a subscriber missed, and gaps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Hub
from trio_sse._hub.hub import engine_of
from trio_sse._hub.registry import Registry
from trio_sse._log.memory import PAGE_EVENTS, Gap, Page
from trio_sse._subscription.log_reading import LogReading
from trio_sse._subscription.source import ReplayFrom
from trio_sse._subscription.subscription import feed_of

from ..support.leaks import MakeHub
from ..support.messages import message
from ..support.serving import running
from ..support.subscriptions import position, publish, take, take_data, take_waiting

# Replay


async def test_a_replay_precedes_what_is_published(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        await publish(hub, "seen")
        cursor = hub.last_event_id
        await publish(hub, "missed", "too")
        async with hub.subscribe("t", last_event_id=cursor) as subscription:
            await publish(hub, "live")
            assert await take_data(subscription, 3) == ["missed", "too", "live"]
            assert await take_waiting(subscription) == []


async def test_the_cursor_of_an_empty_hub_replays_everything(make_hub: MakeHub) -> None:
    hub = make_hub()
    cursor = hub.last_event_id
    async with running(hub):
        await publish(hub, "x")
        async with hub.subscribe("t", last_event_id=cursor) as subscription:
            assert await take_data(subscription, 1) == ["x"]


async def test_the_first_cursor_replays_all_of_the_log(make_hub: MakeHub) -> None:
    hub = make_hub(history=2)
    async with running(hub):
        await publish(hub, 1, 2, 3)
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as subscription:
            assert await take_waiting(subscription) == ["2", "3"]


async def test_a_client_that_missed_nothing_receives_nothing(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        await publish(hub, "seen")
        async with hub.subscribe("t", last_event_id=hub.last_event_id) as subscription:
            assert await take_waiting(subscription) == []


@pytest.mark.parametrize("pause", [1, 7, PAGE_EVENTS - 1, PAGE_EVENTS, PAGE_EVENTS + 1])
async def test_replay_and_live_events_meet_exactly(make_hub: MakeHub, pause: int) -> None:
    hub = make_hub()
    missed = PAGE_EVENTS * 2 + 3
    async with running(hub):
        for number in range(missed):
            await hub.publish("t", number)
        await wait_all_tasks_blocked()
        found: list[object] = []
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as subscription:
            for number in range(missed, missed + 60):
                found += await take_data(subscription, pause if len(found) + pause < number else 0)
                await publish(hub, number)
            found += await take_data(subscription, missed + 60 - len(found))
    assert found == [str(number) for number in range(missed + 60)]


async def test_a_long_replay_is_paged_and_queues_nothing(make_hub: MakeHub) -> None:
    hub = make_hub(queue=10)
    async with running(hub):
        for number in range(PAGE_EVENTS * 3):
            await hub.publish("t", number)
        await wait_all_tasks_blocked()
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as subscription:
            found = await take_data(subscription, 1)
            assert hub.statistics().replayed == PAGE_EVENTS
            await publish(hub, "live")
            assert subscription.queued_events == 0
            found += await take_data(subscription, PAGE_EVENTS * 3)
    assert found == [str(number) for number in range(PAGE_EVENTS * 3)] + ["live"]


async def test_a_page_is_read_at_once(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        await publish(hub, *range(PAGE_EVENTS + 5))
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as subscription:
            assert [len(feed_of(subscription).take()) for _ in range(3)] == [PAGE_EVENTS, 5, 0]


# Gaps


def gap_ids(hub: Hub) -> dict[str, tuple[str, str]]:
    """Return an id that cannot be resumed from, and the reason that the reset should have."""
    epoch, last = hub.last_event_id.split(".")
    return {
        "expired": (f"{epoch}.1", "expired"),
        "unknown": (f"{epoch}.{int(last) + 1}", "unknown"),
        "foreign": (Hub().last_event_id, "unknown"),
        "no id": ("nonsense\0", "unknown"),
        "empty": ("", "unknown"),
        "huge": ("9" * 10_000, "unknown"),
    }


@pytest.mark.parametrize("kind", ["expired", "unknown", "foreign", "no id", "empty", "huge"])
async def test_a_gap_is_a_reset_before_anything_else(make_hub: MakeHub, kind: str) -> None:
    hub = make_hub(history=2)
    async with running(hub):
        await publish(hub, *range(5))
        cursor = hub.last_event_id
        id, reason = gap_ids(hub)[kind]
        async with hub.subscribe("t", last_event_id=id) as subscription:
            await publish(hub, "live")
            reset, live = await take(subscription, 2)
            assert await take_waiting(subscription) == []
    assert (reset.event, reset.json(), reset.id) == ("reset", {"reason": reason}, cursor)
    assert live.data == "live"
    assert hub.statistics().resets == 1


async def test_the_id_of_a_reset_resumes_from_there(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        await publish(hub, 1)
        async with hub.subscribe("t", last_event_id="nonsense") as subscription:
            (reset,) = await take(subscription, 1)
        await publish(hub, 2)
        async with hub.subscribe("t", last_event_id=reset.id) as subscription:
            assert await take_waiting(subscription) == ["2"]


async def test_a_slow_replay_that_the_log_overruns_is_a_reset(make_hub: MakeHub) -> None:
    hub = make_hub(history=PAGE_EVENTS * 2)
    async with running(hub):
        for number in range(PAGE_EVENTS * 2):
            await hub.publish("t", number)
        await wait_all_tasks_blocked()
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as subscription:
            before = await take(subscription, PAGE_EVENTS)
            for number in range(PAGE_EVENTS * 2):
                await hub.publish("t", f"later {number}")
            await wait_all_tasks_blocked()
            (reset,) = await take(subscription, 1)
            assert (reset.event, reset.id) == ("reset", hub.last_event_id)
            assert reset.json() == {"reason": "expired"}
            await publish(hub, "live")
            (live,) = await take(subscription, 1)
    assert [event.data for event in before] == [str(number) for number in range(PAGE_EVENTS)]
    assert live.data == "live"
    assert position(live.id) == position(reset.id) + 1


async def test_without_history_a_resume_is_a_gap_unless_nothing_was_missed(make_hub: MakeHub) -> None:
    hub = make_hub(history=0)
    async with running(hub):
        await publish(hub, 1)
        cursor = hub.last_event_id
        async with hub.subscribe("t", last_event_id=cursor) as subscription:
            await publish(hub, 2)
            assert await take_waiting(subscription) == ["2"]
        async with hub.subscribe("t", last_event_id=cursor) as subscription:
            assert [event.event for event in await take(subscription, 1)] == ["reset"]


# Replay under an interval


class LongestStep(trio.abc.Instrument):
    """How many pages of the log were read in one step of a task."""

    def __init__(self, registry: Registry) -> None:
        self.replayed = 0
        self._registry = registry
        self._before = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._before = self._registry.replayed

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.replayed = max(self.replayed, self._registry.replayed - self._before)


@asynccontextmanager
async def missed(make_hub: MakeHub, events: int, *, keys: int) -> AsyncIterator[tuple[Hub, str]]:
    """Run a hub to which events with these many keys were published; yield it, and the id before them."""
    hub = make_hub(history=100_000, history_bytes=1 << 30)
    async with running(hub):
        start = hub.first_event_id
        for number in range(events):
            await hub.publish("t", f"{number}", key=f"{number % keys}")
        await wait_all_tasks_blocked()
        yield hub, start


@pytest.mark.slow
async def test_under_an_interval_the_newest_of_each_key_is_replayed_in_small_steps(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    async with missed(make_hub, 6000, keys=7) as (hub, start):
        steps = LongestStep(engine_of(hub).registry)
        trio.lowlevel.add_instrument(steps)
        async with hub.subscribe("t", last_event_id=start, interval=5) as events:
            assert await take_data(events, 7) == [f"{number}" for number in range(5993, 6000)]
            await hub.publish("t", "live", key="0")
            assert await take_data(events, 1) == ["live"]
        trio.lowlevel.remove_instrument(steps)
        assert PAGE_EVENTS < steps.replayed <= 8 * PAGE_EVENTS


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [{"queue": 500}, {"queue_bytes": 40_000}, {}])
async def test_more_keys_than_an_interval_holds_are_replayed_in_parts(
    make_hub: MakeHub, autojump_clock: MockClock, bounds: dict[str, Any]
) -> None:
    async with (
        missed(make_hub, 6000, keys=3000) as (hub, start),
        hub.subscribe("t", last_event_id=start, interval=5, **bounds) as events,
    ):
        found = [int(str(data)) for data in await take_waiting(events)]
    assert found == sorted(set(found))
    assert found[-3000:] == list(range(3000, 6000))
    assert len(found) == (3000 if not bounds else 6000)


async def test_a_gap_during_a_replay_under_an_interval_loses_nothing_that_was_read(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    async with missed(make_hub, 3000, keys=7) as (hub, start):
        async with hub.subscribe("t", last_event_id=start, interval=5) as events:
            feed = feed_of(events)
            assert feed.take() == ()
            engine_of(hub).registry.announce_gap(Gap.UNKNOWN)
            found = [event.event or event.data for event in await take(events, 8)]
        assert found[-1] == "reset"
        numbers = [int(str(data)) for data in found[:-1]]
        assert numbers == list(range(numbers[0], numbers[0] + 7))
        assert numbers[0] >= 256


async def test_under_an_interval_a_cursor_passes_no_event_that_waits_to_be_written(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    async with (
        missed(make_hub, 600, keys=600) as (hub, start),
        hub.subscribe("t", last_event_id=start, interval=5) as events,
    ):
        feed = feed_of(events)
        while not (page := feed.take()):
            await feed.wait()
        assert feed.is_live
        assert feed.reached(trio.current_time()).position <= page[-1].sequence < 600


def test_a_replay_reads_on_after_what_it_has_read() -> None:
    pages = [Page([message()], 7, "e.7"), Page([message()], 9, "e.9"), Page([], 12, "e.12")]
    source = Mock(**{"read.side_effect": pages})
    reading = LogReading(source, ("t",), ReplayFrom(3, "e.3"), Mock())
    while not reading.is_over:
        reading.read()
    assert [call.args[:2] for call in source.read.call_args_list] == [(3, "e.3"), (7, "e.7"), (9, "e.9")]
