"""Subscriptions: iteration, replay, overflow, and the pump's direct writes."""

from __future__ import annotations

import math
from itertools import pairwise
from unittest.mock import Mock

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Overflow, ServerSentEvent, SlowConsumer, Subscription
from trio_sse._hub.hub import engine_of
from trio_sse._log.memory import Gap
from trio_sse._subscription.subscription import feed_of
from trio_sse._wire.message import Framing

from ..support.leaks import MakeHub
from ..support.serving import running
from ..support.subscriptions import position, publish, take, take_data, take_waiting
from ..support.waiting import SECONDS

# Live


async def test_events_have_text_and_the_hubs_ids(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t") as subscription:
        await hub.publish("t", {"a": 1}, event="update", retry=5)
        (event,) = await take(subscription, 1)
    assert event == ServerSentEvent('{"a":1}', event="update", id=hub.last_event_id, retry=5)


async def test_a_subscription_starts_at_the_newest_event(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        await publish(hub, "before")
        async with hub.subscribe("t") as subscription:
            await publish(hub, "after")
            assert await take_data(subscription, 1) == ["after"]


async def test_other_topics_are_not_seen(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("a", "c") as subscription:
        for topic in "abcabc":
            await hub.publish(topic, topic)
        assert await take_data(subscription, 4) == ["a", "c", "a", "c"]


async def test_ids_of_several_topics_only_grow(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("a", "b", "c") as subscription:
        for number in range(300):
            await hub.publish("aabcb"[number % 5], number)
        events = await take(subscription, 300)
    assert [event.data for event in events] == [str(number) for number in range(300)]
    assert all(position(b.id) == position(a.id) + 1 for a, b in pairwise(events))


async def test_a_cancelled_iteration_loses_nothing(make_hub: MakeHub) -> None:
    hub = make_hub()
    found: list[object] = []
    async with running(hub) as nursery, hub.subscribe("t") as subscription:

        async def publish_all() -> None:
            for number in range(50):
                await hub.publish("t", number)

        nursery.start_soon(publish_all)
        while len(found) < 50:
            with trio.CancelScope() as scope:
                nursery.start_soon(trio.sleep, 0)
                await trio.lowlevel.checkpoint()
                if len(found) % 2:
                    scope.cancel()
                found.append((await anext(subscription)).data)
            if scope.cancelled_caught:
                found.append((await anext(subscription)).data)
    assert found == [str(number) for number in range(50)]


async def test_an_event_delivered_with_the_cancellation_is_not_lost(make_hub: MakeHub) -> None:
    hub = make_hub()
    found: list[object] = []
    async with running(hub) as nursery, hub.subscribe("t") as subscription:
        scope = trio.CancelScope()

        async def iterate() -> None:
            with scope:
                async for event in subscription:
                    found.append(event.data)

        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        await hub.publish("t", "x")
        scope.cancel()
        await wait_all_tasks_blocked()
        found += await take_waiting(subscription)
    assert found == ["x"]


async def test_only_one_task_may_wait(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub) as nursery, hub.subscribe("t") as subscription:
        nursery.start_soon(take, subscription, 1)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="another task is waiting"):
            await anext(subscription)
        await publish(hub, "x")


async def test_a_subscription_is_used_inside_its_context(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        subscription = hub.subscribe("t")
        with pytest.raises(trio.ClosedResourceError):
            await anext(subscription)
        async with subscription:
            await publish(hub, "x")
        with pytest.raises(trio.ClosedResourceError):
            await anext(subscription)


async def test_a_subscription_is_entered_once(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        async with hub.subscribe("t") as subscription:
            with pytest.raises(RuntimeError, match="entered already"):
                feed_of(subscription).enter()
        with pytest.raises(RuntimeError, match="entered already"):
            feed_of(subscription).enter()


async def test_leaving_wakes_a_task_that_waits(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        subscription = hub.subscribe("t")
        feed_of(subscription).enter()

        async def iterate() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await anext(subscription)

        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        feed_of(subscription).leave()
        await wait_all_tasks_blocked()
        assert hub.statistics().subscriptions == 0


async def test_its_repr_shows_its_phase(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        async with hub.subscribe("a", "b") as subscription:
            await publish(hub, "x", topic="a")
            assert repr(subscription) == "<Subscription to a, b: live, 1 queued>"
        assert repr(subscription) == "<Subscription to a, b: left, 0 queued>"


# Overflow


@pytest.mark.parametrize("bounds", [{"queue": 3}, {"queue_bytes": 90}])
async def test_disconnect_ends_the_iteration(make_hub: MakeHub, bounds: dict[str, int]) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t", **bounds) as subscription:  # type: ignore[arg-type]
        await publish(hub, 1, 2, 3)
        assert (subscription.queued_events, feed_of(subscription).has_overflowed) == (3, False)
        await publish(hub, 4)
        assert (subscription.queued_events, subscription.queued_bytes) == (0, 0)
        assert feed_of(subscription).is_over
        assert feed_of(subscription).has_overflowed
        assert hub.statistics().subscriptions == 0
        with pytest.raises(SlowConsumer, match=r"fell more than \d+ events or \d+ bytes behind"):
            await anext(subscription)


async def test_a_client_that_was_disconnected_reconnects_and_misses_nothing(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        async with hub.subscribe("t", queue=3) as subscription:
            await publish(hub, 1)
            (seen,) = await take(subscription, 1)
            await publish(hub, *range(2, 10))
            with pytest.raises(SlowConsumer):
                await anext(subscription)
        async with hub.subscribe("t", last_event_id=seen.id, queue=3) as subscription:
            assert await take_waiting(subscription) == [str(number) for number in range(2, 10)]


async def test_an_overflow_wakes_a_task_that_waits(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub) as nursery, hub.subscribe("t", queue=1) as subscription:

        async def iterate() -> None:
            with pytest.raises(SlowConsumer):
                await anext(subscription)

        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        hub.publish_nowait("t", 1)
        hub.publish_nowait("t", 2)
        await wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("overflow", "kept"), [(Overflow.DROP_OLDEST, ["3", "4", "5"]), (Overflow.DROP_NEWEST, ["1", "2", "3"])]
)
@pytest.mark.parametrize("bounds", [{"queue": 3}, {"queue_bytes": 90}])
async def test_a_policy_that_drops_keeps_the_subscription(
    make_hub: MakeHub, overflow: Overflow, kept: list[str], bounds: dict[str, int]
) -> None:
    hub = make_hub()
    async with (
        running(hub),
        hub.subscribe("t", overflow=overflow, **bounds) as subscription,  # type: ignore[arg-type]
    ):
        await publish(hub, 1, 2, 3, 4, 5)
        assert (subscription.queued_events, subscription.dropped) == (3, 2)
        assert await take_waiting(subscription) == kept
        await publish(hub, 6)
        assert await take_waiting(subscription) == ["6"]


async def test_latest_keeps_the_newest_of_each_key(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t", overflow=Overflow.LATEST, queue=2) as subscription:
        for number, key in enumerate("aabbab"):
            await publish(hub, number, key=key)
        assert (subscription.queued_events, subscription.dropped) == (2, 4)
        assert await take_waiting(subscription) == ["4", "5"]


async def test_latest_replaces_a_waiting_event_after_another_was_read(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t", overflow=Overflow.LATEST) as subscription:
        for number, key in enumerate("abc"):
            await publish(hub, number, key=key)
        assert await take_data(subscription, 1) == ["0"]
        await publish(hub, "new", key="b")
        assert await take_waiting(subscription) == ["2", "new"]


async def test_latest_ends_the_subscription_when_there_are_too_many_keys(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t", overflow=Overflow.LATEST, queue=2) as subscription:
        for number, key in enumerate("abc"):
            await publish(hub, number, key=key)
        with pytest.raises(SlowConsumer):
            await anext(subscription)


async def test_policies_do_not_apply_to_a_replay(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub):
        for number in range(20):
            await publish(hub, number, key="a")
        async with hub.subscribe(
            "t", last_event_id=hub.first_event_id, overflow=Overflow.LATEST, queue=1
        ) as subscription:
            assert await take_waiting(subscription) == [str(number) for number in range(20)]
            assert subscription.dropped == 0


# The hub's end


async def test_the_hubs_end_ends_the_iteration_after_what_is_queued(make_hub: MakeHub) -> None:
    hub = make_hub()
    subscription = hub.subscribe("t")
    async with running(hub):
        feed_of(subscription).enter()
        await publish(hub, 1, 2)
    assert feed_of(subscription).is_over
    assert [event.data async for event in subscription] == ["1", "2"]
    assert [event async for event in subscription] == []
    feed_of(subscription).leave()


async def test_the_hubs_end_wakes_a_task_that_waits(make_hub: MakeHub) -> None:
    hub = make_hub()
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery, running(hub):
            subscription = hub.subscribe("t")
            feed_of(subscription).enter()

            async def iterate() -> None:
                assert [event async for event in subscription] == []

            nursery.start_soon(iterate)
            await wait_all_tasks_blocked()


# Direct writes


class FakeWriter:
    """Records what the pump writes; the test decides how it behaves."""

    framing = Framing.CHUNKED
    written_at = 0.0

    def __init__(self) -> None:
        self.pending: bytes | memoryview | None = None
        self.written: list[bytes] = []
        self.is_slow = False
        self.is_encrypting = False
        self.error: Exception | None = None
        self.flush_error: Exception | None = None

    def begin_send(self, payload: bytes, events: int, now: float) -> bool:
        if self.error is not None:
            raise self.error
        if self.is_slow or self.is_encrypting:
            self.pending = payload
            return False
        self.written.append(payload)
        return True

    def flush_nowait(self, now: float) -> None:
        if self.flush_error is not None:
            raise self.flush_error
        if self.pending is not None and not self.is_slow:
            self.written.append(bytes(self.pending))
            self.pending = None


async def forward(subscription: Subscription, writer: FakeWriter) -> None:
    """Let the pump write until the task has something to do; it must have nothing to do before."""
    assert not feed_of(subscription).take()
    await feed_of(subscription).forward_to(writer)


async def test_the_pump_writes_directly_and_wakes_nobody(make_hub: MakeHub) -> None:
    hub, writer = make_hub(), FakeWriter()
    async with running(hub) as nursery, hub.subscribe("t") as subscription:
        nursery.start_soon(forward, subscription, writer)
        await wait_all_tasks_blocked()
        for number in (1, 2):
            await publish(hub, number)
        assert len(nursery.child_tasks) == 2, "the task still waits"
        epoch = hub.last_event_id.partition(".")[0]
        events = [f"id: {epoch}.{n}\ndata: {n}\n\n".encode() for n in (1, 2)]
        assert writer.written == [b"%x\r\n%b\r\n" % (len(event), event) for event in events]


async def test_the_task_takes_over_when_the_writer_is_slow(make_hub: MakeHub) -> None:
    hub, writer = make_hub(), FakeWriter()
    async with running(hub) as nursery, hub.subscribe("t") as subscription:
        nursery.start_soon(forward, subscription, writer)
        await wait_all_tasks_blocked()
        writer.is_slow = True
        await publish(hub, 1)
        await publish(hub, 2, 3)
        assert len(nursery.child_tasks) == 1, "the task was woken"
        assert b"data: 1\n" in bytes(writer.pending or b"")
        assert [message.event.data for message in feed_of(subscription).take()] == ["2", "3"]


async def test_what_is_published_while_a_keepalive_waits_is_queued_behind_it(make_hub: MakeHub) -> None:
    hub, writer = make_hub(), FakeWriter()
    async with running(hub) as nursery, hub.subscribe("t") as subscription:
        nursery.start_soon(forward, subscription, writer)
        await wait_all_tasks_blocked()
        writer.pending = b":"  # it was not the pump that has written it
        await publish(hub, 1)
        assert (writer.written, writer.pending) == ([], b":")
        assert [message.event.data for message in feed_of(subscription).take()] == ["1"]


async def test_a_cursor_does_not_pass_what_is_queued(make_hub: MakeHub) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t") as subscription:
        feed = feed_of(subscription)
        await publish(hub, 1, 2)
        assert feed.reached(math.inf).position == 0
        feed.take()
        assert feed.reached(math.inf).position == 2


@pytest.mark.parametrize("is_slow", [False, True])
async def test_what_a_writer_has_only_begun_is_sent_before_the_next_checkpoint(
    make_hub: MakeHub, is_slow: bool
) -> None:
    hub, writer = make_hub(), FakeWriter()
    async with running(hub) as nursery, hub.subscribe("t") as subscription:
        nursery.start_soon(forward, subscription, writer)
        await wait_all_tasks_blocked()
        writer.is_encrypting, writer.is_slow = True, is_slow
        await publish(hub, 1)
        assert (writer.pending is None, len(writer.written)) == (not is_slow, not is_slow)
        assert len(nursery.child_tasks) == (1 if is_slow else 2), "the task is woken to send the rest"


async def test_many_writers_begin_before_the_first_of_them_sends(make_hub: MakeHub) -> None:
    calls: list[str] = []

    class Noting(FakeWriter):
        def begin_send(self, payload: bytes, events: int, now: float) -> bool:
            calls.append("begin")
            return super().begin_send(payload, events, now)

        def flush_nowait(self, now: float) -> None:
            calls.append("send")
            super().flush_nowait(now)

    hub = make_hub()
    async with running(hub) as nursery:
        subscriptions = [hub.subscribe("t") for _ in range(20)]
        for subscription in subscriptions:
            writer = Noting()
            writer.is_encrypting = True
            feed_of(subscription).enter()
            nursery.start_soon(forward, subscription, writer)
        await wait_all_tasks_blocked()
        await publish(hub, 1)
        for subscription in subscriptions:
            feed_of(subscription).leave()
    assert calls == [*["begin"] * 16, *["send"] * 16, *["begin"] * 4, *["send"] * 4]


async def test_nothing_is_written_after_the_forward_was_cancelled(make_hub: MakeHub) -> None:
    hub, writer = make_hub(), FakeWriter()
    async with running(hub), hub.subscribe("t") as subscription:
        with trio.CancelScope() as scope:
            scope.cancel()
            await forward(subscription, writer)
        await publish(hub, 1)
        assert writer.written == []
        assert await take_waiting(subscription) == ["1"]


async def test_only_one_task_may_forward(make_hub: MakeHub) -> None:
    hub, writer = make_hub(), FakeWriter()
    async with running(hub) as nursery, hub.subscribe("t") as subscription:
        nursery.start_soon(forward, subscription, writer)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await forward(subscription, FakeWriter())
        await publish(hub, 1)
        assert len(writer.written) == 1


async def test_all_subscribers_receive_the_same_bytes(make_hub: MakeHub) -> None:
    hub = make_hub()
    writers = [FakeWriter() for _ in range(3)]
    async with running(hub) as nursery:
        subscriptions = [hub.subscribe("t") for _ in writers]
        for subscription, writer in zip(subscriptions, writers, strict=True):
            feed_of(subscription).enter()
            nursery.start_soon(forward, subscription, writer)
        await wait_all_tasks_blocked()
        await publish(hub, "x")
        assert len({id(writer.written[0]) for writer in writers}) == 1
        for subscription in subscriptions:
            feed_of(subscription).leave()


@pytest.mark.parametrize("fails", ["error", "flush_error"])
async def test_a_writer_that_fails_affects_no_other(
    make_hub: MakeHub, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    hub = make_hub()
    good, bad = FakeWriter(), FakeWriter()
    overflowed: list[str] = []
    async with (
        running(hub) as nursery,
        hub.subscribe("t") as first,
        hub.subscribe("t") as second,
        hub.subscribe("t") as third,
    ):
        nursery.start_soon(forward, first, bad)
        nursery.start_soon(forward, second, good)
        await wait_all_tasks_blocked()
        feed_of(first).forwarder = Mock(on_overflow=lambda: overflowed.append("first"))
        bad.is_encrypting = True
        setattr(bad, fails, ValueError("a defect"))
        await publish(hub, 1)
        await publish(hub, 2)
        assert len(good.written) == 2
        assert await take_waiting(third) == ["1", "2"]
        # It is not left out silently: its reader is ended, and its client reconnects for both.
        assert feed_of(first).has_overflowed
        assert overflowed == ["first"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "delivery failed, ending <Subscription to t: live" in caplog.text


@pytest.mark.parametrize("overflow", Overflow)
async def test_a_reader_that_lags_receives_a_reset_under_every_policy(
    make_hub: MakeHub, overflow: Overflow
) -> None:
    hub = make_hub()
    async with running(hub), hub.subscribe("t", overflow=overflow, queue=3) as events:
        for number in range(2):
            await hub.publish("t", number, key=f"{number}")
        await wait_all_tasks_blocked()
        engine_of(hub).registry.announce_gap(Gap.UNKNOWN)  # as the follower of a shared log does
        if overflow is not Overflow.DISCONNECT:
            for number in range(2, 5):
                await hub.publish("t", number, key=f"{number}")
            await wait_all_tasks_blocked()
        found = []
        while events.queued_events:
            event = await anext(events)
            found.append(event.event or event.data)
        expected = {
            Overflow.DISCONNECT: ["0", "1", "reset"],
            Overflow.DROP_OLDEST: ["reset", "2", "3", "4"],
            Overflow.DROP_NEWEST: ["reset", "2", "3", "4"],
            Overflow.LATEST: ["reset", "2", "3", "4"],
        }
        assert found == expected[overflow]
        assert events.dropped == (0 if overflow is Overflow.DISCONNECT else 2)
