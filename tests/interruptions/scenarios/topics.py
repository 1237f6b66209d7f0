"""Streams of topics: live, replayed, paced, with each overflow policy, and of states."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from trio_sse import Connection, Overflow

from ...support.waiting import until
from ..scenario import IN_MEMORY, Visitor, scenario
from ..world import World

Handler = Callable[[Connection], Awaitable[None]]


def live(world: World) -> dict[str, object]:
    async def subscribe(connection: Connection) -> None:
        await connection.subscribe("live")

    return {"live": subscribe}


@scenario(streams=live)
async def live_topic(visitor: Visitor) -> None:
    """A client receives what is published."""
    async with visitor.open("/live") as client:
        await visitor.subscribed()
        await visitor.publish("1", "2", "3")
        assert [event.data for event in await client.events(3)] == ["1", "2", "3"]


@scenario(streams=live)
async def replay(visitor: Visitor) -> None:
    """A client reconnects, and receives what it missed, and then what is live."""
    cursor = visitor.hub.last_event_id
    await visitor.publish("1", "2")
    async with visitor.open("/live", f"Last-Event-ID: {cursor}") as client:
        assert [event.data for event in await client.events(2)] == ["1", "2"]
        await visitor.publish("3")
        assert (await client.event()).data == "3"
    await visitor.publish("4")
    async with visitor.open("/live", f"Last-Event-ID: {client.last_event_id}") as client:
        assert (await client.event()).data == "4"


@scenario(streams=live, hub={"history": 2}, logs=("memory",))
async def reset(visitor: Visitor) -> None:
    """A client reconnects whose events are gone."""
    cursor = visitor.hub.last_event_id
    await visitor.publish("1", "2", "3", "4", "5")
    await until(lambda: visitor.hub.statistics().inbox_events == 0 or not visitor.hub.is_running)
    async with visitor.open("/live", f"Last-Event-ID: {cursor}") as client:
        assert "reset" in {event.event for event in await client.events(1)}
        await visitor.publish("6")
        while (await client.event()).data != "6":
            pass


def several(world: World) -> dict[str, object]:
    async def pair(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.subscribe, "live")
            nursery.start_soon(partial(connection.subscribe, "other", batch=0.05))

    async def topics(connection: Connection) -> None:
        await connection.subscribe("live", "other", include_topic=True)

    async def iterated(connection: Connection) -> None:
        await connection.start()
        async with world.hub.subscribe("live") as events:
            async for event in events:
                await connection.send(event)

    return {"pair": pair, "topics": topics, "iterated": iterated}


@scenario(streams=several)
async def two_subscriptions(visitor: Visitor) -> None:
    """A connection forwards two subscriptions, and resumes both."""
    async with visitor.open("/pair") as client:
        await visitor.subscribed(2)
        await visitor.publish("1")
        await visitor.publish("a", topic="other")
        assert {event.data for event in await client.events(2)} == {"1", "a"}
    await visitor.publish("2")
    await visitor.publish("b", topic="other")
    async with visitor.open("/pair", f"Last-Event-ID: {client.last_event_id}") as client:
        assert {event.data for event in await client.events(2)} == {"2", "b"}


@scenario(streams=several)
async def several_topics(visitor: Visitor) -> None:
    """One subscription of two topics, and one that a handler iterates."""
    async with visitor.open("/topics") as both, visitor.open("/iterated") as one:
        await visitor.subscribed(2)
        await visitor.publish("1")
        await visitor.publish("a", topic="other")
        assert [event.data for event in await both.events(2)] == ["1", "a"]
        assert (await one.event()).data == "1"


def paced(world: World) -> dict[str, object]:
    async def interval(connection: Connection) -> None:
        await connection.subscribe("live", interval=0.05)

    async def batch(connection: Connection) -> None:
        await connection.subscribe("live", batch=0.05)

    return {"interval": interval, "batch": batch}


@scenario(streams=paced)
async def interval_and_batch(visitor: Visitor) -> None:
    """The last event of an interval comes, and all of a batch."""
    async with visitor.open("/interval") as last, visitor.open("/batch") as all_of_them:
        await visitor.subscribed(2)
        await visitor.publish("a", "b", "c")
        assert [event.data for event in await all_of_them.events(3)] == ["a", "b", "c"]
        while (await last.event()).data != "c":
            pass


def lagging(world: World) -> dict[str, object]:
    def forward(policy: Overflow) -> Handler:
        async def lag(connection: Connection) -> None:
            await connection.subscribe("live", overflow=policy, queue=3)

        return lag

    return {policy.value: forward(policy) for policy in Overflow}


@scenario(streams=lagging, transports=IN_MEMORY, logs=("memory",))
async def overflow_disconnect(visitor: Visitor) -> None:
    """A client that lags is disconnected."""
    async with visitor.open("/disconnect") as client:
        await visitor.subscribed()
        await publish_much(visitor)
        await client.rest()
        assert client.is_over


async def publish_much(visitor: Visitor) -> None:
    for number in range(12):
        await visitor.hub.publish("live", "x" * 30_000, key=f"{number % 2}")
    await visitor.hub.publish("live", "end", key="0")


@scenario(streams=lagging, transports=("memory",))
async def overflow_latest(visitor: Visitor) -> None:
    """A client that lags receives the newest of each key."""
    async with visitor.open("/latest") as client:
        await visitor.subscribed()
        await publish_much(visitor)
        while (await client.event()).data != "end":
            pass


@scenario(streams=lagging, transports=("memory",))
async def overflow_drop(visitor: Visitor) -> None:
    """Clients that lag do not receive the oldest, or the newest."""
    async with visitor.open("/drop_oldest") as oldest, visitor.open("/drop_newest") as newest:
        await visitor.subscribed(2)
        await publish_much(visitor)
        while (await oldest.event()).data != "end":
            pass
        assert len(await newest.events(3)) == 3


def stateful(world: World) -> dict[str, object]:
    state = world.hub.state("state", {"n": 0})
    room = world.hub.presence("room", ttl=5)
    world.remaining["members"] = lambda: len(room.members)

    async def show(connection: Connection) -> None:
        await connection.subscribe("state")

    async def enter(connection: Connection) -> None:
        name = connection.request.query["name"]
        async with room.join(name):
            world.code("a member's beginning")
            await connection.subscribe("room")

    async def change(connection: Connection) -> None:
        await state.update(lambda value: {"n": value["n"] + 1})
        await connection.send("changed")

    return {"state": show, "room": enter, "change": change}


@scenario(streams=stateful)
async def state(visitor: Visitor) -> None:
    """A client receives a snapshot, and then a change that another one makes."""
    async with visitor.open("/state") as client:
        first = await client.event()
        async with visitor.open("/change") as changing:
            assert [event.data for event in await changing.rest()] == ["changed"]
        while (await client.event()).data == first.data:
            pass  # a shared log repeats the first snapshot when it has stored it


@scenario(streams=stateful)
async def presence(visitor: Visitor) -> None:
    """Two members enter, and one leaves."""
    visitor.world.visits += 1
    ada, bob = f"ada{visitor.world.visits}", f"bob{visitor.world.visits}"
    async with visitor.open(f"/room?name={ada}") as client:
        while ada not in str((await client.event()).data):
            pass
        async with visitor.open(f"/room?name={bob}"):
            while bob not in str((await client.event()).data):
                pass
        while f'"{bob}":true' in str((await client.event()).data):
            pass


@scenario(streams=live)
async def polls(visitor: Visitor) -> None:
    """A client polls: once in vain, once for what it missed, once for what comes."""
    cursor = visitor.hub.last_event_id
    lines = ("Accept: application/json",)
    async with visitor.open("/live?wait=0", *lines) as client:
        assert b"events" in await client.whole()
    await visitor.publish("1")
    async with visitor.open(f"/live?wait=20&last_event_id={cursor}", *lines) as client:
        assert b'"1"' in await client.whole()
    async with await visitor.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(publish_to_one, visitor)
        await visitor.ask(client, "/live?wait=20", *lines)
        assert b'"2"' in await client.whole()


async def publish_to_one(visitor: Visitor) -> None:
    await visitor.subscribed()
    await visitor.publish("2")


@scenario(streams=live, transports=IN_MEMORY, logs=("memory",), is_virtual=True)
async def poll_in_vain(visitor: Visitor) -> None:
    """A poll waits for its time."""
    async with visitor.open("/live?wait=20", "Accept: application/json") as client:
        assert b'"events": []' in await client.whole()


@scenario(streams=live, hub={"inbox": 1})
async def full_inbox(visitor: Visitor) -> None:
    """Publishers wait for room in the inbox."""
    async with visitor.open("/live") as client:
        await visitor.subscribed()
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(visitor.publish, f"e{number}")
        assert len(await client.events(5)) == 5
