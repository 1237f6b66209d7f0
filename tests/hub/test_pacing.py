"""Fewer updates: `interval` and `batch` of a subscription."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Hub, Overflow, Server, SlowConsumer
from trio_sse._hub.hub import engine_of
from trio_sse.testing import Client

from ..support.cases import each_case
from ..support.follower import Follower, follow
from ..support.leaks import MakeHub, MakeServer
from ..support.serving import running
from ..support.shares import seeds


async def test_at_most_one_update_is_sent_in_an_interval_and_always_the_last(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        follower = await follow(hub, nursery, "t", interval=1)
        for number in range(25):
            await hub.publish("t", f"{number}")
            await trio.sleep(0.11)
        await trio.sleep(5)
        assert follower.data == ["0", "9", "18", "24"]
        assert follower.times == [0, 1, 2, 3]
        follower.check_order()


async def test_after_a_quiet_time_an_update_is_sent_at_once(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        follower = await follow(hub, nursery, "t", interval=2)
        for pause in (0, 7, 0.5):
            await trio.sleep(pause)
            await hub.publish("t", "x")
        await trio.sleep(5)
        assert follower.times == [0, 7, 9]


async def test_each_topic_and_key_has_its_newest(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        follower = await follow(hub, nursery, "a", "b", interval=1)
        await hub.publish("a", "first")
        await trio.sleep(0.1)
        for number in range(5):
            for topic, key in (("a", "x"), ("a", "y"), ("b", "x"), ("other", "x")):
                await hub.publish(topic, f"{topic}{key}{number}", key=key)
        await trio.sleep(2)
        assert follower.data == ["first", "ax4", "ay4", "bx4"]
        follower.check_order()


async def test_a_batch_leaves_nothing_out(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        follower = await follow(hub, nursery, "t", batch=1)
        for number in range(25):
            await hub.publish("t", f"{number}")
            await trio.sleep(0.1)
        await trio.sleep(5)
        assert follower.data == [f"{number}" for number in range(25)]
        assert set(follower.times) == {0, 1, 2, 3}


async def test_a_large_batch_is_sent_early(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        follower = await follow(hub, nursery, "t", batch=100)
        await hub.publish("t", "first")
        await trio.sleep(1)
        for number in range(300):
            await hub.publish("t", f"{number}")
        await trio.sleep(1)
        assert len(follower.data) > 256
        await trio.sleep(200)
        assert len(follower.data) == 301


async def test_a_client_that_joins_between_two_updates_receives_no_older_event(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        early = await follow(hub, nursery, "t", interval=1)
        for data in ("0", "1"):
            await hub.publish("t", data, key=data)
            await trio.sleep(0.2)
        late = await follow(hub, nursery, "t", interval=1)
        await hub.publish("t", "2", key="2")
        await trio.sleep(2)
        assert early.data == ["0", "1", "2"]
        assert late.data == ["2"]


async def test_a_client_that_reconnects_receives_the_newest_of_what_it_missed(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        cursor = hub.last_event_id
        for number in range(1000):
            await hub.publish("t", f"{number}", key=f"{number % 3}")
        follower = await follow(hub, nursery, "t", interval=1, last_event_id=cursor)
        await hub.publish("t", "live", key="0")
        await trio.sleep(2)
        assert follower.data == ["997", "998", "999", "live"]
        follower.check_order()


async def test_a_gap_is_a_reset(make_hub: MakeHub, autojump_clock: MockClock) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        follower = await follow(hub, nursery, "t", interval=1, last_event_id="nonsense")
        await hub.publish("t", "live")
        await trio.sleep(2)
        assert [event.event for _, event in follower.came] == ["reset", None]


async def test_the_queue_of_a_throttled_reader_is_bounded(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    lagging = hub.subscribe("t", interval=0.1, queue=3, overflow=Overflow.DISCONNECT)
    async with running(hub), lagging as events:
        for number in range(10):
            await hub.publish("t", f"{number}")
            await trio.sleep(0.2)
        with pytest.raises(SlowConsumer):
            [event async for event in events]


async def test_waiting_events_are_sent_when_the_hub_ends(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    followers: list[Follower] = []
    async with trio.open_nursery() as outer, running(hub):
        followers += [await follow(hub, outer, "t", interval=100) for _ in range(3)]
        for number in range(5):
            await hub.publish("t", f"{number}")
            await wait_all_tasks_blocked()
    assert [follower.data for follower in followers] == [["0", "4"]] * 3


async def test_groups_are_forgotten_and_statistics_are_right(
    make_hub: MakeHub, autojump_clock: MockClock
) -> None:
    hub = make_hub()
    async with running(hub) as nursery:
        for _ in range(3):
            await follow(hub, nursery, "t", interval=1)
        await follow(hub, nursery, "t")
        await hub.publish("t", "0")
        await trio.sleep(0.1)  # or the first might be joined with the others
        for number in range(1, 4):
            await hub.publish("t", f"{number}")
        await trio.sleep(3)
        assert hub.statistics().deliveries == 4 + 3 * 2
        assert engine_of(hub).scheduler.groups == 1
    assert engine_of(hub).scheduler.groups == 0


async def test_the_hub_writes_to_a_group_itself(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server: Server = make_server()

    @server.route("/t")
    async def t(connection: Connection) -> None:
        await connection.subscribe("t", interval=1)

    async with Client(server) as client, client.stream("/t") as one, client.stream("/t") as two:
        for number in range(30):
            await server.hub.publish("t", f"{number}")
            await trio.sleep(0.11)
        await trio.sleep(2)
        for stream in (one, two):
            assert [event.data for event in stream.events_nowait()] == ["0", "9", "18", "27", "29"]


@pytest.mark.parametrize("seed", seeds(20))
async def test_any_interleaving_keeps_the_promises(
    make_hub: MakeHub, autojump_clock: MockClock, seed: int
) -> None:
    chance = random.Random(seed)
    hub = make_hub()
    published: dict[str, str] = {}
    async with running(hub) as nursery:
        followers: list[tuple[Follower, dict[str, Any]]] = []
        for number in range(150):
            if chance.random() < 0.1:
                options: dict[str, Any] = {chance.choice(["interval", "batch"]): chance.choice([0.1, 0.5, 2])}
                if chance.random() < 0.5:
                    options["last_event_id"] = chance.choice([hub.first_event_id, hub.last_event_id])
                followers.append((await follow(hub, nursery, "a", "b", **options), options))
            key = chance.choice("xyz")
            topic = chance.choice("ab")
            published[topic + key] = f"{number}"
            await hub.publish(topic, f"{number}", key=key)
            if chance.random() < 0.5:
                await trio.sleep(chance.choice([0, 0.03, 0.3, 1]))
        await trio.sleep(10)
        for follower, options in followers:
            follower.check_order()
            if options.get("last_event_id") == hub.first_event_id:
                continue
            if follower.data:
                assert follower.data[-1] == "149"
            if "interval" in options:
                seconds = options["interval"]
                live = [time for time in follower.times if time > 0]
                flushes = sorted(set(live))
                assert all(b - a >= seconds - 0.01 for a, b in pairwise(flushes))


@each_case(
    "options",
    [
        {"interval": 0},
        {"interval": 4000},
        {"batch": -1},
        {"batch": float("nan")},
        {"interval": 1, "batch": 1},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"interval|batch"):
        Hub().subscribe("t", **options)


@pytest.mark.parametrize("options", [{"interval": True}, {"batch": "1"}])
def test_an_interval_is_a_number(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be a number of seconds"):
        Hub().subscribe("t", **options)
