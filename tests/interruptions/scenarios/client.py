"""The Python client: it reconnects with its cursor, notices what is dead, and stops."""

from __future__ import annotations

from typing import Any

import trio

from trio_sse import Connection, HTTPException

from ...support.waiting import until
from ..following import following
from ..places import Place
from ..scenario import IN_MEMORY, NATIVE, NO_LOG, Visitor, scenario
from ..world import World
from .runs import Viewer, of_runs
from .topics import live

HOSTS = ("native", "quart", "starlette")
OF_CLIENT: dict[str, Any] = {"has_client": True, "is_http1": True}
IN_VIRTUAL_TIME: dict[str, Any] = {"transports": IN_MEMORY, "logs": ("memory", "list"), "is_virtual": True}


def pages(world: World) -> dict[str, object]:
    async def pages(connection: Connection) -> None:
        async with world.hub.subscribe("live", last_event_id=connection.last_event_id) as events:
            for _ in range(2):
                await connection.send(await anext(aiter(events)))
        connection.close(reconnect=True)

    return {"pages": pages}


@scenario(streams=pages, hosts=HOSTS, transports=("memory", "sockets", "tls"), **OF_CLIENT)
async def client_that_reconnects(visitor: Visitor) -> None:
    """A stream ends after two events; the client reconnects, and receives the next ones."""
    async with following(visitor, "/pages", last_event_id=visitor.hub.last_event_id) as client:
        await visitor.publish("1", "2", "3")
        await client.has("1", "2", "3")
        await visitor.publish("4")
        await client.has("1", "2", "3", "4")


@scenario(streams=pages, hosts=NATIVE, **OF_CLIENT, **IN_VIRTUAL_TIME)
async def client_that_starts_anew(visitor: Visitor) -> None:
    """A client that was cancelled is replaced by another one, with the cursor of the first."""
    cursor = visitor.hub.last_event_id
    async with following(visitor, "/pages", is_left=True, last_event_id=cursor) as client:
        await visitor.publish("1", "2", "3")
        await client.has("1", "2", "3")


@scenario(streams=live, hosts=HOSTS, options={"keepalive": 200}, **OF_CLIENT, **IN_VIRTUAL_TIME)
async def client_without_heartbeats(visitor: Visitor) -> None:
    """Nothing arrives for too long, so the client takes the connection for dead, and replaces it."""
    async with following(visitor, "/live", last_event_id=visitor.hub.last_event_id) as client:
        await visitor.publish("1")
        await client.has("1")
        await trio.sleep(30)
        await visitor.publish("2")
        await client.has("1", "2")


@scenario(streams=live, hosts=NATIVE, hub={"history": 2}, **OF_CLIENT, transports=IN_MEMORY, logs=("memory",))
async def client_that_is_reset(visitor: Visitor) -> None:
    """The client's cursor is older than the log: it receives a `reset`, and then what the log has."""
    cursor = visitor.hub.last_event_id
    await visitor.publish("1", "2", "3", "4", "5")
    await until(lambda: visitor.hub.statistics().inbox_events == 0 or not visitor.hub.is_running)
    async with following(visitor, "/live", last_event_id=cursor) as client:
        await until(lambda: client.received or not visitor.hub.is_running)
        assert client.received[0].event == "reset"
        await visitor.publish("6")
        await until(lambda: "6" in client.texts or not visitor.hub.is_running)
        if (texts := client.texts[1:]) not in (["4", "5", "6"], ["5", "6"], ["6"]):
            visitor.world.faults.append(f"after its reset, a client has received {texts}")


def refusing(world: World) -> dict[str, object]:
    refusals = iter((503, 429, 204) * 2)

    async def refuse(connection: Connection) -> None:
        if (status := next(refusals, 204)) != 200:
            raise HTTPException(status, "later")

    return {"refuse": refuse}


@scenario(streams=refusing, hosts=NATIVE, **OF_CLIENT, **IN_VIRTUAL_TIME)
async def client_that_is_refused(visitor: Visitor) -> None:
    """The client tries again after 503 and 429, and ends after 204."""
    async with following(visitor, "/refuse") as client:
        await until(lambda: client.is_over)
        await client.has()


def posted(world: World) -> dict[str, object]:
    async def ask(connection: Connection) -> None:
        world.visits += 1
        for number in range(3):
            await connection.send(f"{number}")
            await world.turns()

    return {"ask": ask}


@scenario(streams=posted, hosts=HOSTS, transports=("memory", "sockets", "tls"), logs=NO_LOG, **OF_CLIENT)
async def client_that_posts(visitor: Visitor) -> None:
    """The client sends a request once, whatever happens, and ends with its stream."""
    world, trigger = visitor.world, visitor.world.trigger
    visits = world.visits
    try:
        async with following(visitor, "/ask", method="POST", content="a question") as client:
            await until(lambda: client.is_over)
            texts = ["0", "1", "2"]
            if trigger.has_happened and trigger.place in (Place.HANDLER, Place.END):  # it was ended in order
                texts = texts[: len(client.texts)]
            await client.has(*texts)
    finally:
        if world.visits > visits + 1:
            world.faults.append("a request was sent again")


@scenario(streams=of_runs, hosts=HOSTS, transports=IN_MEMORY, **OF_CLIENT)
async def client_of_a_run(visitor: Visitor) -> None:
    """A client follows a run to its end, and reconnects once, to learn that there is no more."""
    async with visitor.open("/begin") as first:
        id = (await first.event()).json()["id"]  # type: ignore[index]
    async with following(visitor, f"/join?id={id}") as client:
        await until(lambda: client.is_over or not visitor.hub.is_running)
        viewer = Viewer(visitor.world)
        viewer.add(client.received)
        assert viewer.end is not None
