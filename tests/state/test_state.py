"""State topics: a snapshot first, and then every change."""

from __future__ import annotations

import copy
import json
import random
import sys
from typing import Any

import json_merge_patch
import jsonpatch
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Hub, HubStatistics, Overflow, PatchFormat, Server, ServerSentEvent
from trio_sse.testing import Client

from ..support.follower import follow
from ..support.leaks import MakeHub, MakeServer
from ..support.serving import running
from ..support.shares import seeds

FORMATS = list(PatchFormat)


class Reader:
    """Builds the value of a state from its events, as a client does."""

    def __init__(self) -> None:
        self.value: Any = None
        self.kinds: list[str | None] = []

    def take(self, event: ServerSentEvent) -> None:
        self.kinds.append(event.event)
        change: Any = event.json()
        match event.event:
            case "snapshot":
                self.value = change
            case "merge-patch":
                self.value = json_merge_patch.merge(self.value, change)
            case "json-patch":
                self.value = jsonpatch.apply_patch(self.value, change)
            case kind:
                raise AssertionError(f"no event of a state: {kind}")


async def read(hub: Hub, *topics: str, **options: Any) -> Reader:
    """Return a reader that has joined now and read everything there is."""
    reader = Reader()
    async with hub.subscribe(*topics, **options) as events:
        with trio.move_on_after(1):
            async for event in events:
                reader.take(event)
    return reader


# What is sent


async def test_a_subscriber_receives_a_snapshot_and_then_changes(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    board = hub.state("board", {"users": 3, "load": {"cpu": 0.5, "memory": 0.25}})
    async with running(hub), hub.subscribe("board") as events:
        await board.set({"users": 4, "load": {"cpu": 0.5, "memory": 0.25}})
        await board.update({"load": {"cpu": 0.75, "memory": 0.25}})
        came = [await anext(events) for _ in range(3)]
    assert [(event.event, event.data) for event in came] == [
        ("snapshot", '{"users":3,"load":{"cpu":0.5,"memory":0.25}}'),
        ("merge-patch", '{"users":4}'),
        ("merge-patch", '{"load":{"cpu":0.75}}'),
    ]
    assert board.value == {"users": 4, "load": {"cpu": 0.75, "memory": 0.25}}


async def test_json_patch_changes_items_of_arrays(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    rows = [{"name": f"row {number}", "value": 0} for number in range(20)]
    board = hub.state("board", rows, patch=PatchFormat.JSON)
    async with running(hub), hub.subscribe("board") as events:
        await anext(events)
        await board.set([*rows[:7], {"name": "row 7", "value": 1}, *rows[8:]])
        patch = await anext(events)
        assert (patch.event, patch.data) == ("json-patch", '[{"op":"replace","path":"/7/value","value":1}]')


@pytest.mark.parametrize("patch", FORMATS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a": [1, 2, 3]}, {"a": None}),  # a merge patch would remove it
        ({"a": 1, "b": "x" * 50}, {"a": True, "b": "x" * 50}),  # equal to Python
        ({"a": 1, "b": "x" * 50}, {"a": 1.0, "b": "x" * 50}),
        ({"a": "x" * 50}, {"b": "y" * 50}),  # the patch would be larger
        ({"a": 1}, []),
        ([1, 2], "text"),
        (None, False),
        ({"a/b": {"~": 1}, "": 2, "x": "x" * 50}, {"a/b": {"~": 2}, "": 3, "x": "x" * 50}),
        ({"a": "", "x": "x" * 50}, {"a": "half of \ud83d", "x": "x" * 50}),
    ],
)
async def test_every_value_arrives(
    make_hub: MakeHub, autojump_clock: MockClock, old: object, new: object, patch: PatchFormat
) -> None:
    hub = make_hub()
    state = hub.state("s", old, patch=patch)
    async with running(hub):
        first = hub.last_event_id
        await state.set(new)
        await wait_all_tasks_blocked()
        late = await read(hub, "s")
        assert json.dumps(late.value) == json.dumps(new)
        assert late.kinds == ["snapshot"]

        returned = Reader()
        returned.value = copy.deepcopy(old)
        async with hub.subscribe("s", last_event_id=first) as events:
            returned.take(await anext(events))
        assert json.dumps(returned.value) == json.dumps(new)


async def test_setting_an_equal_value_publishes_nothing(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    state = hub.state("s", {"a": 1})
    async with running(hub):
        await state.set({"a": 1})
        await state.update({"a": 1})
        await state.update({})
        await wait_all_tasks_blocked()
        assert hub.statistics().published == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text("ab~/", max_size=3),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text("ab~/", max_size=2), values, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.slow
@given(values=st.lists(json_values, min_size=2, max_size=6), patch=st.sampled_from(FORMATS))
def test_any_value_may_follow_any_other(values: list[object], patch: PatchFormat) -> None:
    async def main() -> None:
        hub = Hub()
        state = hub.state("s", values[0], patch=patch)
        reader = Reader()
        async with running(hub), hub.subscribe("s") as events:
            for value in values[1:]:
                await state.set(value)
            with trio.move_on_after(0.1):
                async for event in events:
                    reader.take(event)
        assert json.dumps(reader.value, sort_keys=True) == json.dumps(values[-1], sort_keys=True)

    trio.run(main, clock=MockClock(autojump_threshold=0))


# Coming and coming back


@pytest.mark.slow
@pytest.mark.parametrize("patch", FORMATS)
@pytest.mark.parametrize("seed", seeds(10))
async def test_a_client_sees_the_states_in_order_whenever_it_joins(
    make_hub: MakeHub, autojump_clock: MockClock, seed: int, patch: PatchFormat
) -> None:
    chance = random.Random(seed)
    hub = make_hub(history=chance.choice([0, 10, 1000]))
    state = hub.state("s", {"n": 0, "rest": "x" * 100}, patch=patch)
    seen: list[list[int]] = []

    async def visit(options: dict[str, Any]) -> None:
        reader, numbers, cursor = Reader(), list[int](), None
        seen.append(numbers)
        for _ in range(chance.randint(1, 4)):  # coming back, each time
            async with hub.subscribe("s", last_event_id=cursor, **options) as events:
                with trio.move_on_after(chance.uniform(0, 2)):
                    async for event in events:
                        reader.take(event)
                        numbers.append(reader.value["n"])
                        cursor = event.id
            await trio.sleep(chance.uniform(0, 0.2))
        async with hub.subscribe("s", last_event_id=cursor, **options) as events:
            async for event in events:
                reader.take(event)
                numbers.append(reader.value["n"])
                if numbers[-1] == 200:
                    return

    with trio.fail_after(1000):
        async with running(hub), trio.open_nursery() as nursery:
            for number in range(1, 201):
                if number % 20 == 1:
                    options = {"interval": chance.choice([0.05, 0.5])} if chance.random() < 0.4 else {}
                    nursery.start_soon(visit, options)
                await state.update({"n": number})
                if chance.random() < 0.5:
                    await trio.sleep(chance.choice([0, 0.01, 0.1]))
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
    assert len(seen) == 10
    for numbers in seen:
        # The same one comes again as a snapshot, for example after a gap.
        assert numbers == sorted(numbers)
        assert numbers[-1] == 200


async def test_a_client_that_reconnects_receives_the_changes_it_missed(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    state = hub.state("s", {"n": 0, "rest": "x" * 100})
    async with running(hub):
        async with hub.subscribe("s") as events:
            cursor = (await anext(events)).id
        for number in range(1, 4):
            await state.update({"n": number})
        await wait_all_tasks_blocked()
        reader = await read(hub, "s", last_event_id=cursor)
        of_page = await read(hub, "s", last_event_id=hub.last_event_id)
    assert (reader.kinds, reader.value) == (["merge-patch"] * 3, {"n": 3})
    assert of_page.kinds == ["snapshot"]  # this id does not say that its client has the state


@pytest.mark.parametrize("cursor", ["unknown", None])
async def test_after_a_gap_there_is_a_snapshot_instead_of_a_reset(
    make_hub: MakeHub, autojump_clock: MockClock, cursor: str | None
) -> None:
    hub = make_hub(history=2)
    state = hub.state("s", {"n": 0, "rest": "x" * 100})
    async with running(hub):
        cursor = cursor or hub.last_event_id  # which the log will not reach
        for number in range(1, 6):
            await state.update({"n": number})
        await wait_all_tasks_blocked()
        reader = await read(hub, "s", last_event_id=cursor)
    assert (reader.kinds, reader.value["n"]) == (["snapshot"], 5)


async def test_beside_other_topics_a_gap_is_a_reset(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    hub.state("s", {"n": 0})
    async with running(hub), hub.subscribe("t", "s", last_event_id="unknown") as events:
        assert [(await anext(events)).event for _ in range(2)] == ["reset", "snapshot"]


async def test_two_states_have_a_snapshot_each(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    hub.state("a", 1)
    hub.state("b", 2)
    async with running(hub), hub.subscribe("a", "t", "b") as events:
        await hub.publish("t", "live")
        assert [(await anext(events)).data for _ in range(3)] == ["1", "2", "live"]


async def test_changes_within_an_interval_become_one(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    state = hub.state("s", {"a": 0, "b": 0, "rest": "x" * 100})
    async with running(hub) as nursery:
        follower = await follow(hub, nursery, "s", interval=1)
        for number in range(1, 8):
            await state.update({"a": number} if number % 2 else {"b": number})
            await trio.sleep(0.1)
        await trio.sleep(2)
        assert [(event.event, event.data) for _, event in follower.came] == [
            ("snapshot", json.dumps({"a": 0, "b": 0, "rest": "x" * 100}, separators=(",", ":"))),
            ("merge-patch", '{"a":1}'),
            ("merge-patch", '{"a":7,"b":6}'),
        ]
        follower_of_all = await follow(hub, nursery, "s", batch=1)
        for number in range(3):
            await state.update({"a": number})
        await trio.sleep(2)
        assert [event.event for _, event in follower_of_all.came] == ["snapshot", *["merge-patch"] * 3]


async def test_streams_and_polls_deliver_a_state(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server: Server = make_server()
    state = server.hub.state("s", {"n": 0, "rest": "x" * 100})

    @server.route("/s")
    async def s(connection: Connection) -> None:
        await connection.subscribe("s")

    async with Client(server) as client, client.stream("/s") as stream:
        await state.update({"n": 1})
        assert [(await stream.event()).event for _ in range(2)] == ["snapshot", "merge-patch"]
        answer = await client.get("/s?wait=1", headers={"Accept": "application/json"})
        (snapshot,) = json.loads(answer.body)["events"]
        assert (snapshot["event"], json.loads(snapshot["data"])["n"]) == ("snapshot", 1)


# Bounds and refusals


async def test_a_full_inbox_delays_changes_and_loses_none(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub(inbox=1)
    state = hub.state("s", {"n": 0, "rest": "x" * 100})
    async with running(hub):
        state.set_nowait({"n": 1, "rest": "x" * 100})  # the pump takes it at once
        state.update_nowait({"n": 2})
        with pytest.raises(trio.WouldBlock):
            state.update_nowait({"n": 3})
        assert state.value == {"n": 2, "rest": "x" * 100}
        with trio.CancelScope() as scope:
            scope.cancel()
            await state.update({"n": 3})
        assert state.value == {"n": 2, "rest": "x" * 100}
        async with trio.open_nursery() as nursery:
            for number in range(3, 10):
                nursery.start_soon(state.update, {"n": number})
        await wait_all_tasks_blocked()
        reader = await read(hub, "s")
        assert reader.value == state.value
        assert hub.statistics().published == 9


async def test_an_invalid_state_is_refused(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    state = hub.state("s", {"n": 0})
    with pytest.raises(ValueError, match="topic 's' is a state already"):
        hub.state("s", 1)
    with pytest.raises(ValueError, match="a topic"):
        hub.state("", 1)
    with pytest.raises(TypeError):
        hub.state("t", object())
    with pytest.raises(ValueError, match="Out of range float values"):
        hub.state("t", float("nan"))
    with pytest.raises(RuntimeError, match="this hub is not running"):
        await state.set(1)
    async with running(hub):
        with pytest.raises(ValueError, match="'s' is a state: change it by the state's own"):
            await hub.publish("s", 1)
        with pytest.raises(TypeError):
            await state.set(object())
        with pytest.raises(TypeError):
            await state.update({"a": {1, 2}})
        assert state.value == {"n": 0}
        await state.set([1])
        with pytest.raises(TypeError, match=r"only an object has members to update, and the state is \[1\]"):
            await state.update({"n": 1})
        for overflow in (Overflow.LATEST, Overflow.DROP_OLDEST, Overflow.DROP_NEWEST):
            with pytest.raises(ValueError, match="a state cannot drop events"):
                hub.subscribe("t", "s", overflow=overflow)
        async with hub.subscribe("taken"):
            with pytest.raises(ValueError, match="'taken' has subscribers: declare a state before"):
                hub.state("taken", 1)
    with pytest.raises(trio.ClosedResourceError):
        await state.set(2)


async def test_the_topic_of_a_closed_state_is_an_ordinary_one(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    state = hub.state("s", {"n": 0})
    async with running(hub):
        async with hub.subscribe("s") as events:
            assert (await anext(events)).event == "snapshot"
            await state.update({"n": 1})
            state.close()
            state.close()
            await hub.publish("s", "plain")
            assert [(await anext(events)).data for _ in range(2)] == ['{"n":1}', "plain"]
            with pytest.raises(trio.ClosedResourceError, match="the state 's' was closed"):
                await state.set(2)
        again = hub.state("s", "anew")
        assert (await read(hub, "s")).value == "anew"
        state.close()  # the old one, once more
        assert (await read(hub, "s")).value == again.value


async def test_a_state_outlives_the_run_of_its_hub(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    state = hub.state("s", 0)
    for number in range(1, 3):
        async with running(hub):
            await state.set(number)
            await wait_all_tasks_blocked()
    async with running(hub):
        assert (await read(hub, "s")).value == 2
        statistics: HubStatistics = hub.statistics()
        assert statistics.subscriptions == 0


def test_without_its_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for patch, module in zip(FORMATS, ("json_merge_patch", "jsonpatch"), strict=True):
        with monkeypatch.context() as missing:
            missing.setitem(sys.modules, module, None)
            with pytest.raises(ImportError, match=r"pip install 'trio-sse\[state\]'"):
                Hub().state("s", 0, patch=patch)


@pytest.mark.parametrize("patch", FORMATS)
async def test_a_patch_with_fewer_characters_but_more_bytes_than_the_state_is_not_sent(
    make_hub: MakeHub, patch: PatchFormat
) -> None:
    hub = make_hub()
    old, new = ({"text": "x" * 300_000, emoji * 180_000: 0} for emoji in "\U0001f600\U0001f601")
    state = hub.state("s", old, patch=patch)
    async with running(hub), hub.subscribe("s") as events:
        assert (await anext(events)).event == "snapshot"
        await state.set(new)  # as a patch, it would be larger than an event may be
        changed = await anext(events)
        assert (changed.event, changed.json()) == ("snapshot", new)
