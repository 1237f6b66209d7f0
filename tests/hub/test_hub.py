"""The hub: publishing, its inbox, its pump, its lifetime."""

from __future__ import annotations

import gc
import json
import tracemalloc

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Histogram, Hub, HubStatistics, Overflow, ServerSentEvent, Subscription
from trio_sse._hub.hub import engine_of
from trio_sse._subscription.subscription import feed_of
from trio_sse._wire.topic import MAX_TOPICS, TopicError

from ..support.cases import each_case
from ..support.leaks import MakeHub
from ..support.recorder import Recorder, record, recorded
from ..support.serving import running
from ..support.waiting import SECONDS


def park_pump(hub: Hub) -> None:
    """Fill the inbox without letting the pump run: it runs at the next checkpoint."""
    while True:
        try:
            hub.publish_nowait("t", "filler")
        except trio.WouldBlock:
            return


# Publishing


async def test_publishing_in_a_hub_that_has_never_run_says_what_to_do(make_hub: MakeHub) -> None:
    hub = make_hub()
    with pytest.raises(RuntimeError, match="serve it by a Server, or run it"):
        await hub.publish("t", "x")
    with pytest.raises(RuntimeError, match="not running"):
        hub.publish_nowait("t", "x")
    with pytest.raises(RuntimeError, match="not running"):
        feed_of(hub.subscribe("t")).enter()


async def test_publishing_in_a_hub_that_has_ended_is_refused(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        assert hub.is_running
    assert not hub.is_running
    with pytest.raises(trio.ClosedResourceError, match="ended"):
        await hub.publish("t", "x")
    with pytest.raises(trio.ClosedResourceError, match="ended"):
        hub.publish_nowait("t", "x")
    with pytest.raises(trio.ClosedResourceError, match="ended"):
        feed_of(hub.subscribe("t")).enter()


async def test_a_hub_is_run_by_one_task(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        with pytest.raises(RuntimeError, match="already running"):
            await hub.run()
        await hub.publish("t", "it still works")


@pytest.mark.parametrize("topic", ["", "a\nb", "x" * 257, "\0"])
async def test_an_invalid_topic_is_refused(make_hub: MakeHub, topic: str) -> None:
    hub = make_hub()
    async with running(hub):
        with pytest.raises(TopicError):
            await hub.publish(topic, "x")
        with pytest.raises(TopicError):
            hub.publish_nowait(topic, "x")
        with pytest.raises(TopicError):
            hub.subscribe(topic)


@pytest.mark.parametrize("count", [0, MAX_TOPICS + 1])
def test_the_number_of_topics_is_bounded(count: int) -> None:
    with pytest.raises(TopicError):
        Hub().subscribe(*(str(number) for number in range(count)))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"event": "a\nb"}, ValueError),
        ({"event": ""}, ValueError),
        ({"retry": -1}, ValueError),
        ({"retry": True}, TypeError),
        ({"data": b"x"}, TypeError),
        ({"data": {1, 2}}, TypeError),
        ({"data": "\ud800"}, ValueError),
        ({"data": "x" * (1024 * 1024 + 1)}, ValueError),
    ],
)
async def test_an_invalid_event_is_refused_and_not_published(
    make_hub: MakeHub, fields: dict[str, object], error: type[Exception]
) -> None:
    hub = make_hub()
    async with running(hub):
        with pytest.raises(error):
            await hub.publish("t", **{"data": "x", **fields})  # type: ignore[arg-type]
        await wait_all_tasks_blocked()
        assert hub.statistics().published == 0


@each_case("name", ["history", "history_bytes", "inbox", "inbox_bytes", "queue", "queue_bytes"])
@each_case(("bound", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_an_invalid_bound_is_refused(name: str, bound: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{name} must be"):
        Hub(**{name: bound})  # type: ignore[arg-type]


@each_case("name", ["inbox", "inbox_bytes", "queue", "queue_bytes"])
def test_only_the_log_may_be_empty(name: str) -> None:
    Hub(history=0, history_bytes=0)
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        Hub(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["queue", "queue_bytes"])
def test_a_subscription_has_a_bound(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        Hub().subscribe("t", **{name: 0})  # type: ignore[arg-type]


def test_an_invalid_policy_is_refused() -> None:
    assert Hub().subscribe("t", overflow="latest").overflow is Overflow.LATEST  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is not a valid Overflow"):
        Hub().subscribe("t", overflow="newest")  # type: ignore[arg-type]


async def test_data_is_written_by_the_hubs_own_function(make_hub: MakeHub) -> None:
    hub = make_hub(dumps=lambda data: json.dumps(data, sort_keys=True))
    async with running(hub), hub.subscribe("t") as subscription:
        await hub.publish("t", {"b": 1, "a": 2})
        assert (await anext(subscription)).data == '{"a": 2, "b": 1}'


async def test_data_is_encoded_when_it_is_published(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t") as subscription:
        data = [1]
        hub.publish_nowait("t", data)
        data.append(2)
        assert (await anext(subscription)).data == "[1]"


# The inbox


@pytest.mark.parametrize("bounds", [{"inbox": 3}, {"inbox_bytes": 50}])
async def test_publish_nowait_does_not_wait_for_a_full_inbox(
    make_hub: MakeHub, bounds: dict[str, int]
) -> None:
    hub = make_hub(**bounds)
    async with running(hub):
        park_pump(hub)
        with pytest.raises(trio.WouldBlock):
            hub.publish_nowait("t", "x")
        await wait_all_tasks_blocked()
        hub.publish_nowait("t", "x")
        await wait_all_tasks_blocked()


@pytest.mark.parametrize("bounds", [{"inbox": 3}, {"inbox_bytes": 50}])
async def test_publish_waits_while_the_inbox_is_full(make_hub: MakeHub, bounds: dict[str, int]) -> None:
    hub = make_hub(**bounds)
    async with running(hub), hub.subscribe("t") as subscription:
        park_pump(hub)
        filled = hub.statistics().inbox_bytes
        await hub.publish("t", "waited")
        assert hub.statistics().inbox_bytes < filled
        event = await anext(subscription)
        while event.data == "filler":
            event = await anext(subscription)
        assert event.data == "waited"


async def test_an_empty_inbox_accepts_an_event_larger_than_its_bound(make_hub: MakeHub) -> None:
    hub = make_hub(inbox_bytes=10)
    async with running(hub), hub.subscribe("t") as subscription:
        with trio.fail_after(SECONDS):
            for _ in range(3):
                await hub.publish("t", "x" * 100)
        assert [(await anext(subscription)).data for _ in range(3)] == ["x" * 100] * 3


async def test_a_cancelled_publish_publishes_nothing(make_hub: MakeHub) -> None:
    hub = make_hub(inbox=1)
    async with running(hub):
        with trio.CancelScope() as scope:
            scope.cancel()
            await hub.publish("t", "cancelled before")
        park_pump(hub)
        with trio.CancelScope() as scope:
            scope.cancel()
            await hub.publish("t", "cancelled while it is full")
        await wait_all_tasks_blocked()
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as subscription:
            data = {(await anext(subscription)).data for _ in range(hub.statistics().published)}
    assert data == {"filler"}


async def test_a_publish_that_is_cancelled_while_it_waits_publishes_nothing(make_hub: MakeHub) -> None:
    hub = make_hub(inbox=1)
    scope = trio.CancelScope()

    async def publish() -> None:
        with scope:
            await hub.publish("t", "cancelled")

    async with recorded(hub, 1000) as recorders, trio.open_nursery() as nursery:
        await hub.publish("t", "long on its way")
        while not any(recorder.written for recorder in recorders):
            await trio.lowlevel.checkpoint()
        park_pump(hub)  # it is busy with a thousand writes, and takes nothing until they are done
        nursery.start_soon(publish)
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        assert engine_of(hub).inbox.waiting_publishers == 1
        scope.cancel()
        await wait_all_tasks_blocked()
    assert scope.cancelled_caught
    assert b"filler" in b"".join(recorders[0].written)
    assert b"cancelled" not in b"".join(recorders[0].written)


async def test_publishers_that_wait_learn_that_the_hub_has_ended(make_hub: MakeHub) -> None:
    hub = make_hub(inbox=1)
    refused = []

    async def publish() -> None:
        try:
            await hub.publish("t", "x")
        except trio.ClosedResourceError:
            refused.append(True)

    async with trio.open_nursery() as publishers, running(hub) as nursery:
        park_pump(hub)
        for _ in range(3):
            publishers.start_soon(publish)
        nursery.cancel_scope.cancel()
        park_pump(hub)
    assert len(refused) + hub.statistics().published >= 3
    assert hub.statistics().inbox_bytes == 0


# The pump


async def test_each_publishers_events_keep_their_order(make_hub: MakeHub) -> None:
    hub = make_hub(inbox=7)
    async with running(hub) as nursery, hub.subscribe("t") as subscription:

        async def publish(name: str) -> None:
            for number in range(100):
                await hub.publish("t", [name, number])

        for name in "abc":
            nursery.start_soon(publish, name)
        events = [await anext(subscription) for _ in range(300)]
    for name in "abc":
        received = [json.loads(str(event.data)) for event in events]
        assert [number for by, number in received if by == name] == list(range(100))
    assert [event.id for event in events] == [f"{engine_of(hub).log.epoch}.{n}" for n in range(1, 301)]


async def test_what_is_published_together_is_sent_in_one_write(make_hub: MakeHub) -> None:
    hub, recorder = make_hub(), Recorder()
    async with running(hub) as nursery:
        nursery.start_soon(record, hub, recorder, "t")
        await wait_all_tasks_blocked()
        for number in range(10):
            hub.publish_nowait("t", number)
        await wait_all_tasks_blocked()
    assert recorder.events == [10]
    epoch = engine_of(hub).log.epoch
    assert recorder.written == [
        b"".join(b"id: %b.%d\ndata: %d\n\n" % (epoch.encode(), n + 1, n) for n in range(10))
    ]


async def test_a_write_is_bounded(make_hub: MakeHub) -> None:
    hub, recorder = make_hub(), Recorder()
    async with running(hub) as nursery:
        nursery.start_soon(record, hub, recorder, "t")
        await wait_all_tasks_blocked()
        for _ in range(20):
            hub.publish_nowait("t", "x" * 10_000)
        for _ in range(300):
            hub.publish_nowait("t", "x")
        await wait_all_tasks_blocked()
    assert sum(recorder.events) == 320
    assert max(recorder.events) <= 256
    assert max(len(write) for write in recorder.written) < 64 * 1024 + 10_100


async def test_readers_share_one_encoding(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with recorded(hub, 5) as recorders:
        await hub.publish("t", "x")
        await wait_all_tasks_blocked()
    assert len({id(recorder.written[0]) for recorder in recorders}) == 1


async def test_a_large_fan_out_lets_others_run(make_hub: MakeHub) -> None:
    hub = make_hub()
    most_at_once = 0
    async with recorded(hub, 1000) as recorders:
        hub.publish_nowait("t", "x")
        served = 0
        while served < 1000:
            await trio.lowlevel.checkpoint()
            now = sum(len(recorder.written) for recorder in recorders)
            most_at_once, served = max(most_at_once, now - served), now
    assert most_at_once <= 200


async def test_subscribing_during_a_fan_out_misses_and_repeats_nothing(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with recorded(hub, 300) as recorders:
        cursor = hub.last_event_id
        hub.publish_nowait("t", "x")
        while not any(recorder.written for recorder in recorders):
            await trio.lowlevel.checkpoint()
        assert not all(recorder.written for recorder in recorders), "the fan-out is under way"
        async with hub.subscribe("t", last_event_id=cursor) as resumed, hub.subscribe("t") as new:
            hub.publish_nowait("t", "y")
            assert [(await anext(resumed)).data for _ in range(2)] == ["x", "y"]
            assert (await anext(new)).data == "y"


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(4))
async def test_a_replay_that_ends_at_any_checkpoint_misses_and_repeats_nothing(
    make_hub: MakeHub, before: int, after: int
) -> None:
    hub = make_hub()
    async with running(hub):
        await hub.publish("t", "w")
        await wait_all_tasks_blocked()
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as resumed:
            hub.publish_nowait("t", "x")
            for _ in range(before):
                await trio.lowlevel.checkpoint()
            found = take_all(resumed)
            for _ in range(after):
                await trio.lowlevel.checkpoint()
            hub.publish_nowait("t", "y")
            await wait_all_tasks_blocked()
            assert [*found, *take_all(resumed)] == [1, 2, 3]


def take_all(subscription: Subscription) -> list[int]:
    """Take all that is there, without a checkpoint; the replay of the log has ended then."""
    found = []
    while messages := feed_of(subscription).take():
        found += [message.sequence for message in messages]
    return found


async def test_a_subscription_left_during_a_fan_out_receives_nothing(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with recorded(hub, 150) as recorders:
        last = hub.subscribe("t")
        feed_of(last).enter()
        hub.publish_nowait("t", "x")
        while not any(recorder.written for recorder in recorders):
            await trio.lowlevel.checkpoint()
        feed_of(last).leave()
        await wait_all_tasks_blocked()
        assert (last.queued_events, hub.statistics().queued_events) == (0, 0)


# Its lifetime


async def test_what_was_published_before_a_cancel_is_still_delivered_and_logged(make_hub: MakeHub) -> None:
    hub, recorder = make_hub(), Recorder()
    subscription = hub.subscribe("t")
    async with running(hub) as nursery:
        nursery.start_soon(record, hub, recorder, "t")
        await wait_all_tasks_blocked()
        feed_of(subscription).enter()
        for number in range(600):
            hub.publish_nowait("t", number)
        nursery.cancel_scope.cancel()
    assert [event.data async for event in subscription] == [str(number) for number in range(600)]
    assert hub.statistics().log_events == 600


async def test_a_fan_out_that_is_cancelled_still_reaches_everyone(make_hub: MakeHub) -> None:
    hub = make_hub()
    subscriptions = [hub.subscribe("t") for _ in range(350)]
    async with running(hub) as nursery:
        for subscription in subscriptions:
            feed_of(subscription).enter()
        hub.publish_nowait("t", "x")
        while not subscriptions[0].queued_events:
            await trio.lowlevel.checkpoint()
        assert not subscriptions[-1].queued_events, "the fan-out is under way"
        hub.publish_nowait("t", "y")
        nursery.cancel_scope.cancel()
    for subscription in subscriptions:
        assert [event.data async for event in subscription] == ["x", "y"]


async def test_a_hub_that_runs_again_continues_with_its_log(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        await hub.publish("t", 1)
        await wait_all_tasks_blocked()
        cursor = hub.last_event_id
        await hub.publish("t", 2)
    async with running(hub):
        async with hub.subscribe("t", last_event_id=cursor) as subscription:
            await hub.publish("t", 3)
            events = [await anext(subscription) for _ in range(2)]
        assert [event.data for event in events] == ["2", "3"]
        assert [event.id for event in events] == [
            f"{engine_of(hub).log.epoch}.2",
            f"{engine_of(hub).log.epoch}.3",
        ]


def test_a_hub_can_be_made_outside_of_a_run() -> None:
    hub = Hub()
    for number in range(2):

        async def use(number: int = number) -> None:
            async with running(hub), hub.subscribe("t") as subscription:
                await hub.publish("t", number)
                assert (await anext(subscription)).data == str(number)

        trio.run(use)
    assert hub.last_event_id.endswith(".2")


# Figures


async def test_statistics_are_a_snapshot_of_everything(make_hub: MakeHub) -> None:
    hub, recorder = make_hub(history=3), Recorder()
    async with running(hub) as nursery:
        nursery.start_soon(record, hub, recorder, "a")
        await wait_all_tasks_blocked()
        async with hub.subscribe("a", "b") as slow, hub.subscribe("c", last_event_id="nonsense"):
            for topic in "aabbd":
                await hub.publish(topic, "x")
            await wait_all_tasks_blocked()
            async with hub.subscribe("b", last_event_id=hub.first_event_id) as resumed:
                assert (await anext(resumed)).data == "x"
                hub.publish_nowait("d", "x")
                hub.publish_nowait("d", "x")
                statistics = hub.statistics()
            await wait_all_tasks_blocked()
            size = slow.queued_bytes // 4
    assert (
        statistics
        == HubStatistics(
            topics=3,
            subscriptions=4,
            published=5,
            refused=0,
            deliveries=6,
            replayed=2,
            resets=1,
            inbox_events=statistics.inbox_events,  # the pump holds one of the two already
            inbox_bytes=2 * len(b"data: x\n\n"),
            states=0,
            snapshots=0,
            queued_events=5,  # a reset is one of them
            queued_bytes=4 * size + len(f"id: {statistics.last_event_id[:-1]}0\nevent: reset\n") + 28,
            waiting_events=0,
            waiting_bytes=0,
            log_events=3,
            log_bytes=3 * size,
            log_topics=2,
            evicted=2,
            log_reads=0,
            log_waiting=0,
            last_event_id=f"{engine_of(hub).log.epoch}.5",
            batches=Histogram(statistics.batches.bounds, statistics.batches.counts, 5.0),
            fan_outs=statistics.fan_outs,
            latencies=statistics.latencies,
            lagging=2,
            longest_queue=4,
            dropped=0,
            log_problem=None,
            log_lag=0.0,
            log_outages=0,
            patterns={},
        )
    )
    assert statistics.inbox_events in (1, 2)


@pytest.mark.integration
async def test_topics_without_subscribers_use_no_memory(make_hub: MakeHub) -> None:
    hub = make_hub(history=0)

    async def use(start: int, count: int) -> None:
        for number in range(start, start + count):
            async with hub.subscribe(f"topic/{number}"):
                hub.publish_nowait(f"topic/{number}", number)
                await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()

    async with running(hub):
        await use(0, 1000)
        gc.collect()
        tracemalloc.start()
        try:
            await use(1000, 3000)
            gc.collect()
            left = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        await use(4000, 16_000)
        assert not engine_of(hub).registry._live
        assert not engine_of(hub).registry._registered
        assert hub.statistics().published == 20_000
    assert left < 100_000, "bytes for 3,000 topics without subscribers"


async def test_an_event_carries_what_was_published(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t") as subscription:
        await hub.publish("t", "a\r\nb", event="update", key="k", retry=9)
        event = await anext(subscription)
    assert event == ServerSentEvent("a\nb", event="update", id=f"{engine_of(hub).log.epoch}.1", retry=9)


@pytest.mark.parametrize("key", [1, b"key", ["key"]])
async def test_a_key_that_is_not_a_string_is_refused(make_hub: MakeHub, key: object) -> None:
    hub = make_hub()
    async with running(hub):
        with pytest.raises(TypeError, match="key must be a str or None"):
            hub.publish_nowait("t", "x", key=key)  # type: ignore[arg-type]  # that is what is tested


async def test_a_key_with_a_lone_surrogate_is_refused(make_hub: MakeHub) -> None:
    hub = make_hub()  # a shared log could not store it
    async with running(hub):
        with pytest.raises(ValueError, match="key has a lone surrogate at position 1"):
            hub.publish_nowait("t", "x", key="k\ud800")
        hub.publish_nowait("t", "x", key="clé")


def test_a_url_is_no_log() -> None:
    with pytest.raises(TypeError, match="RedisLog"):
        Hub(log="redis://127.0.0.1")  # type: ignore[arg-type]
