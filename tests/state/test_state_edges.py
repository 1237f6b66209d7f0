"""States where they begin and end, what many readers share, and values that cannot be a state."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Hub, Overflow, PatchFormat
from trio_sse._subscription.subscription import feed_of
from trio_sse._wire.message import Framing, frame_messages

from ..support.follower import follow
from ..support.leaks import MakeHub
from ..support.serving import running

# What is shared


@pytest.mark.parametrize("framing", Framing)
async def test_all_who_start_at_one_place_share_one_snapshot(make_hub: MakeHub, framing: Framing) -> None:
    hub = make_hub()
    state = hub.state("s", {str(number): "x" * 30 for number in range(500)})
    hub.state("small", 1)
    async with running(hub):
        async with hub.subscribe("small", "s") as one, hub.subscribe("s", "small") as other:
            size = len(json.dumps(state.value, separators=(",", ":")))
            assert (one.queued_events, other.queued_events) == (2, 2)
            assert size < one.queued_bytes < size + 200
            assert hub.statistics().queued_bytes == one.queued_bytes + other.queued_bytes
            assert (hub.statistics().states, hub.statistics().snapshots) == (2, 4)
            pages = [feed_of(one).take() for _ in range(2)] + [feed_of(other).take() for _ in range(2)]
            assert pages[0] == pages[2]  # the largest one comes first
            assert frame_messages(pages[0], framing) is frame_messages(pages[2], framing)
            assert one.queued_events == 0
        await state.update({"1": 1})
        await wait_all_tasks_blocked()
        async with hub.subscribe("s") as late:
            assert feed_of(late).take()[0] is not pages[0][0]


# Closing


@pytest.mark.parametrize("options", [{}, {"interval": 0.1}, {"batch": 0.1}])
async def test_after_the_close_of_a_state_its_subscribers_receive_what_is_published(
    make_hub: MakeHub, autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    hub = make_hub()
    state = hub.state("s", {"n": 0, "text": "x" * 50})
    async with running(hub) as nursery:
        follower = await follow(hub, nursery, "s", **options)
        await trio.sleep(1)
        for number in (1, 2):  # at once: a first one alone would be sent alone
            state.update_nowait({"n": number})
        state.close()
        await hub.publish("s", "plain")
        await hub.publish("s", "keyed", key="k")
        await trio.sleep(1)
        await hub.publish("s", "later")
        await trio.sleep(1)
        found = [(event.event, event.data) for _, event in follower.came][1:]
        changes = [("merge-patch", '{"n":1}'), ("merge-patch", '{"n":2}')]
        if "interval" in options:
            changes = [("merge-patch", '{"n":2}')]
        assert found == [*changes, (None, "plain"), (None, "keyed"), (None, "later")]


async def test_changes_before_a_close_belong_to_the_state(make_hub: MakeHub) -> None:
    hub = make_hub()
    state = hub.state("s", {"n": 0, "text": "x" * 50})
    async with running(hub):
        await wait_all_tasks_blocked()
        state.update_nowait({"n": 1})
        state.update_nowait({"n": 2})
        state.close()
        hub.publish_nowait("s", "plain")
        with pytest.raises(ValueError, match="the last changes of the closed state 's' are still being"):
            hub.state("s", 0)
        async with hub.subscribe("s") as events:  # which has no change yet
            found = [await anext(events) for _ in range(4)]
        assert [event.event for event in found] == ["snapshot", "merge-patch", "merge-patch", None]
        assert hub.statistics().states == 0
        async with hub.subscribe("s") as events:
            assert feed_of(events).take() == ()
        assert hub.state("s", 0).value == 0


# Declaring


async def test_a_topic_that_somebody_replays_cannot_become_a_state(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with running(hub):
        first = hub.last_event_id
        for number in range(600):
            await hub.publish("t", number)
        await wait_all_tasks_blocked()
        async with hub.subscribe("t", last_event_id=first) as events:
            await anext(events)
            with pytest.raises(ValueError, match="'t' has subscribers: declare a state before"):
                hub.state("t", 0)
        state = hub.state("t", {"n": 0, "text": "x" * 50})
        await state.update({"n": 1})
        await wait_all_tasks_blocked()
        for topics, kinds in (("t",), ["snapshot"]), (("t", "u"), ["reset", "snapshot"]):
            async with hub.subscribe(*topics, last_event_id=first) as events:
                assert [(await anext(events)).event for _ in kinds] == kinds
                assert events.queued_events == 0


async def test_what_was_published_just_before_is_not_a_change_of_the_state(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with running(hub):
        first = hub.last_event_id
        hub.publish_nowait("t", "one")
        hub.publish_nowait("t", "two")
        hub.state("t", {"n": 0})
        await wait_all_tasks_blocked()
        async with hub.subscribe("t", last_event_id=first) as events:
            assert (await anext(events)).event == "snapshot"
            assert events.queued_events == 0


async def test_a_subscription_that_drops_events_cannot_begin_when_its_topic_is_a_state(
    make_hub: MakeHub,
) -> None:
    hub = make_hub()
    async with running(hub):
        subscription = hub.subscribe("s", overflow=Overflow.DROP_OLDEST)
        hub.state("s", 0)
        with pytest.raises(ValueError, match="a state cannot drop events"):
            await subscription.__aenter__()
        assert hub.statistics().subscriptions == 0


# Values


def containing_itself() -> object:
    value: list[object] = []
    value += [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: "one", "1": "uno"}, 'the names of a state\'s members are strings, and 1 is not: write "1"'),
        ({"a": [{"b": {True: 0}}]}, 'and True is not: write "true"'),
        ({"a": ({None: 0},)}, 'and None is not: write "null"'),
        ([{1.5: 0}], 'and 1.5 is not: write "1.5"'),
        ({(1, 2): 0}, r"and \(1, 2\) is not$"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"dumps": json.dumps}])
async def test_each_member_has_a_name_and_only_one(
    make_hub: MakeHub, value: object, message: str, options: dict[str, Any]
) -> None:
    hub = make_hub(**options)
    state = hub.state("s", {"1": "one"})
    with pytest.raises(TypeError, match=message):
        hub.state("t", value)
    async with running(hub), hub.subscribe("s") as events:
        await anext(events)
        with pytest.raises(TypeError, match=message):
            await state.set(value)
        with pytest.raises(TypeError, match=message):
            await state.update(value if isinstance(value, dict) else {"list": value})
        assert state.value == {"1": "one"}
        await state.update({"1": "uno"})
        assert (await anext(events)).json() == {"1": "uno"}


def test_a_state_refuses_what_its_dumps_makes_of_a_value() -> None:
    class Person:
        pass

    def dumps(value: object) -> str:
        return json.dumps(value).replace('"person"', '{"name":1,"name":2}').replace('"deep"', "[" * 5000)

    hub = Hub(dumps=dumps)
    with pytest.raises(ValueError, match="dumps that returns JSON: an object has the member 'name' twice"):
        hub.state("s", {"a": "person"})
    with pytest.raises(ValueError, match=r"nested at most 100 levels|dumps that returns JSON"):
        hub.state("s", "deep")


@pytest.mark.parametrize("patch", PatchFormat)
def test_a_value_that_contains_itself_is_refused_quickly(patch: PatchFormat) -> None:
    with pytest.raises(ValueError, match="nested at most 100 levels deep, and without circles"):
        Hub().state("s", containing_itself(), patch=patch)
