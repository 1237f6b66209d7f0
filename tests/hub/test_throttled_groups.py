"""Groups of throttled subscriptions: their bounds, what they share, and what many of them cost."""

from __future__ import annotations

import random
from collections import defaultdict
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._hub.flushing import FlushScheduler
from trio_sse._hub.hub import engine_of
from trio_sse._hub.inbox import _BATCH_EVENTS
from trio_sse._hub.pacing import ThrottledGroup
from trio_sse._subscription.feed import Feed
from trio_sse._subscription.subscription import feed_of
from trio_sse._subscription.throttle import Throttle
from trio_sse._wire.message import Batch

from ..support.follower import follow
from ..support.leaks import MakeHub
from ..support.messages import placed
from ..support.recorder import Recorder, record
from ..support.serving import running

KIB = 1024

# Bounds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bounds", "most_events", "most_bytes"),
    [
        ({"queue": 100}, 100 + _BATCH_EVENTS, 1 << 30),
        ({"queue_bytes": 10 * KIB}, 1 << 30, (10 + 64 + 1) * KIB),
    ],
)
async def test_what_waits_for_an_interval_is_bounded_and_nothing_is_lost(
    make_hub: MakeHub,
    autojump_clock: MockClock,
    bounds: dict[str, int],
    most_events: int,
    most_bytes: int,
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        recorder = Recorder()
        nursery.start_soon(partial(record, hub, recorder, "t", interval=3600, **bounds))
        await wait_all_tasks_blocked()
        for number in range(3000):
            await hub.publish("t", f"{number} {'x' * 100}", key=f"{number}")
            statistics = hub.statistics()
            assert statistics.waiting_events <= most_events
            assert statistics.waiting_bytes <= most_bytes
        await trio.sleep(3700)
        assert hub.statistics().waiting_events == hub.statistics().waiting_bytes == 0
    assert recorder.sequences == list(range(1, 3001))
    assert max(len(write) for write in recorder.written) <= 65 * KIB


async def test_statistics_count_what_waits(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        for options in ({"interval": 10}, {"batch": 10}):
            for _ in range(3):
                await follow(hub, nursery, "t", **options)
        await hub.publish("t", "first")
        await trio.sleep(1)
        for number in range(4):
            await hub.publish("t", "x", key=f"{number % 2}")
        await wait_all_tasks_blocked()
        statistics = hub.statistics()
        size = len(f"id: {hub.last_event_id}\ndata: x\n\n")
        assert (statistics.waiting_events, statistics.waiting_bytes) == (2 + 4, (2 + 4) * size)
        assert statistics.queued_events == 0
        await trio.sleep(10)
        assert hub.statistics().waiting_events == 0


async def test_what_waits_for_nobody_is_dropped(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as followers:
                await follow(hub, followers, "t", interval=100)
                for number in range(3):
                    await hub.publish("t", f"{number}")
                    await wait_all_tasks_blocked()
                assert hub.statistics().waiting_events == 1
                scope.cancel()
        assert hub.statistics().waiting_events == 0
        later = await follow(hub, nursery, "t", interval=100)
        await hub.publish("t", "new")
        await trio.sleep(1)
        assert later.data == ["new"]


async def test_a_flush_of_many_keys_is_written_in_pages(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub(history=10_000)
    async with running(hub) as nursery:
        recorder = Recorder()
        nursery.start_soon(partial(record, hub, recorder, "t", interval=10))
        await wait_all_tasks_blocked()
        await hub.publish("t", "first", key="first")
        await trio.sleep(1)
        for number in range(2000):
            await hub.publish("t", "x" * 100, key=f"{number}")
        await trio.sleep(10)
    assert recorder.sequences == list(range(1, 2002))
    assert max(len(write) for write in recorder.written) <= 65 * KIB
    assert len(recorder.written) < 12


# Sharing


@pytest.mark.parametrize("options", [{"batch": 0.5}, {"interval": 0.5}])
async def test_groups_with_a_topic_in_common_share_its_encoding(
    make_hub: MakeHub, autojump_clock: MockClock, options: dict[str, float]
) -> None:
    hub = make_hub()
    recorders = [Recorder() for _ in range(30)]
    async with running(hub) as nursery:
        for number, recorder in enumerate(recorders):
            nursery.start_soon(partial(record, hub, recorder, "all", f"user/{number}", **options))
        await wait_all_tasks_blocked()
        for number in range(100):
            await hub.publish("all", f"{number}", key=f"{number}")
            if number == 50:
                await hub.publish("user/7", "own", key="own")
            await trio.sleep(0.1)
        await trio.sleep(1)
        assert engine_of(hub).scheduler.groups == 30
    others = [recorder for number, recorder in enumerate(recorders) if number != 7]
    for writes in zip(*[recorder.written for recorder in others], strict=True):
        assert len({id(write) for write in writes}) == 1
    assert [sum(recorder.events) for recorder in recorders] == [100 + (number == 7) for number in range(30)]
    assert recorders[7].sequences == list(range(1, 102))


async def forward(feed: Feed, recorder: Recorder) -> None:
    await feed.forward_to(recorder)


async def test_groups_with_a_state_in_common_share_its_patches(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    state = hub.state("s", {"text": "x" * 100, "n": 0})
    recorders = [Recorder() for _ in range(30)]
    async with running(hub) as nursery:
        for number, recorder in enumerate(recorders):
            topics = ("s", f"user/{number}")
            feed = feed_of(hub.subscribe(*topics, interval=0.5))
            feed.enter()
            feed.take()
            nursery.start_soon(forward, feed, recorder)
        await wait_all_tasks_blocked()
        for number in range(1, 40):
            await state.update({"n": number})
            await trio.sleep(0.1)
        await trio.sleep(1)
        assert engine_of(hub).scheduler.groups == 30
    for writes in zip(*[recorder.written for recorder in recorders], strict=True):
        assert len({id(write) for write in writes}) == 1
    assert len(recorders[0].written) < 12
    assert b'{"n":39}' in recorders[0].written[-1]


# Many groups


class Member:
    connection_number = 0

    def __init__(self) -> None:
        self.received: list[int] = []

    def deliver(self, batch: Batch, now: float) -> None:
        self.received += [message.sequence for message in batch.messages]

    def cut_off(self) -> None:
        raise AssertionError


async def test_a_group_that_is_often_flushed_early_has_one_entry(autojump_clock: MockClock) -> None:
    scheduler, member = FlushScheduler(), Member()
    group = ThrottledGroup(Throttle(3600.0, True, 2, 1 << 30), scheduler, [])
    group.add(member, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        for number in range(1, 301):
            group.deliver(Batch([placed(number)]), trio.current_time())
            await trio.sleep(0.001)
        assert len(scheduler._waiting) <= 1
        await trio.sleep(3600)
        assert member.received == list(range(1, 301))
        nursery.cancel_scope.cancel()


async def test_groups_that_were_left_are_forgotten_before_they_are_due() -> None:
    scheduler = FlushScheduler()
    kept = ThrottledGroup(Throttle(3600.0, True, 2, 1 << 30), scheduler, [])
    kept.add(Member(), 0)
    kept.due = trio.current_time() + 3600
    kept.deliver(Batch([placed(1)]), trio.current_time())
    for _ in range(1000):
        group, member = ThrottledGroup(Throttle(3600.0, False, 2, 1 << 30), scheduler, []), Member()
        group.due = trio.current_time() + 3600
        group.add(member, 0)
        group.deliver(Batch([placed(1)]), trio.current_time())
        group.remove(member)
        scheduler.discard(group)
    assert len(scheduler._waiting) < 300
    assert kept in [entry[2] for entry in scheduler._waiting]


async def test_the_pump_waits_for_groups_that_are_full(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub(inbox=100_000, inbox_bytes=1 << 30)
    async with running(hub) as nursery:
        recorders = [Recorder() for _ in range(20)]
        for number, recorder in enumerate(recorders):
            nursery.start_soon(partial(record, hub, recorder, "all", f"user/{number}", batch=0.05))
        await wait_all_tasks_blocked()
        for number in range(3000):
            hub.publish_nowait("all", f"{number}")
        most = 0
        while hub.statistics().inbox_events:
            await trio.lowlevel.checkpoint()
            most = max(most, *(group.waiting_events for group in engine_of(hub).registry.groups))
        assert most <= 2 * _BATCH_EVENTS
        await trio.sleep(0.2)
    assert [recorder.sequences for recorder in recorders] == [list(range(1, 3001))] * 20


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(20))
async def test_any_groups_keep_the_promises(make_hub: MakeHub, autojump_clock: MockClock, seed: int) -> None:
    chance = random.Random(seed)
    hub = make_hub(queue=20, queue_bytes=4 * KIB)
    newest: dict[tuple[str, str], int] = {}
    published: defaultdict[str, list[int]] = defaultdict(list)
    async with running(hub) as nursery:
        readers: list[tuple[Recorder, list[str], dict[str, float], int]] = []
        for number in range(1, 301):
            if chance.random() < 0.1:
                topics = chance.sample("abcd", chance.randint(1, 4))
                options = {chance.choice(["interval", "batch"]): chance.choice([0.1, 0.5, 2])}
                await wait_all_tasks_blocked()
                readers.append((Recorder(), topics, options, number))
                nursery.start_soon(partial(record, hub, readers[-1][0], *topics, **options))
                await wait_all_tasks_blocked()
            topic, key = chance.choice("abcd"), f"{chance.randint(0, 40)}"
            newest[topic, key] = number
            published[topic].append(number)
            await hub.publish(topic, "x" * chance.choice([5, 300]), key=key)
            if chance.random() < 0.3:
                await trio.sleep(chance.choice([0, 0.03, 0.3, 1]))
        await trio.sleep(10)
    for recorder, topics, options, since in readers:
        expected = sorted(at for topic in topics for at in published[topic] if at >= since)
        if "batch" in options:
            assert recorder.sequences == expected
        else:
            assert recorder.sequences == sorted(set(recorder.sequences) & set(expected))
            last = {at for (topic, _), at in newest.items() if topic in topics and at >= since}
            assert last <= set(recorder.sequences)
