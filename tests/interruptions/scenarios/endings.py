"""Servers that end streams, refuse them, or shut down; and what operators ask."""

from __future__ import annotations

import time

import trio

from trio_sse import Connection, Run, Runs

from ..scenario import NATIVE, Visitor, scenario
from ..world import World


def owned(world: World) -> dict[str, object]:
    async def mine(connection: Connection) -> None:
        connection.identity = "ada"
        await connection.send("1")
        await connection.subscribe("live")

    async def expiring(connection: Connection) -> None:
        connection.expires_at = time.time() + 0.5
        await connection.send("1")
        await connection.subscribe("live")

    return {"mine": mine, "expiring": expiring}


@scenario(streams=owned)
async def revoke(visitor: Visitor) -> None:
    """The streams of one identity are ended on all nodes."""
    async with visitor.open("/mine") as client:
        await client.event()
        await visitor.hub.revoke("ada")
        await client.rest()
        assert client.is_over


@scenario(streams=owned)
async def expiry(visitor: Visitor) -> None:
    """A stream ends when its credentials have expired."""
    async with visitor.open("/expiring") as client:
        await client.rest()
        assert client.is_over


@scenario(streams=owned, hosts=NATIVE, server={"max_connections": 1})
async def full_server(visitor: Visitor) -> None:
    """A second client is refused, and served when the first one has left."""
    async with visitor.open("/mine") as client:
        await client.event()
        async with visitor.open("/mine", status=503) as refused:
            await refused.whole()
    while True:
        async with await visitor.connect() as client:
            await client.send(b"GET /mine HTTP/1.1\r\nHost: test\r\n\r\n")
            if (await client.head()).status == 200:
                assert (await client.event()).data == "1"
                return
        await trio.sleep(0.01)


def of_runs(world: World) -> dict[str, object]:
    runs = Runs(world.hub, drain_timeout=1, cancel_when_unwatched=1)

    async def count(run: Run) -> dict[str, int]:
        for number in range(3):
            world.code("a run")
            await run.append(f"{number} ")
            await world.turns()
        await run.emit({"n": 3}, event="done")
        return {"counted": 3}

    async def wait(run: Run) -> None:
        await run.append("waiting")
        await trio.sleep_forever()

    async def begin(connection: Connection) -> None:
        view = await runs.start(wait if "wait" in connection.request.query else count)
        await view.stream(connection)

    async def join(connection: Connection) -> None:
        await runs.get(connection.request.query["id"]).stream(connection)

    async def cancel(connection: Connection) -> None:
        await runs.get(connection.request.query["id"]).cancel("stopped")
        await connection.send("cancelled")

    return {"begin": begin, "join": join, "cancel": cancel}


@scenario(streams=of_runs)
async def run(visitor: Visitor) -> None:
    """A run is started and watched to its end, and joined afterwards."""
    async with visitor.open("/begin") as client:
        first = await client.event()
        id = first.json()["id"]  # type: ignore[index]
        assert "counted" in str([event.data for event in await client.rest()])
    async with visitor.open(f"/join?id={id}") as client:
        assert "counted" in str([event.data for event in await client.rest()])


@scenario(streams=of_runs)
async def cancelled_run(visitor: Visitor) -> None:
    """A run has two viewers, and is cancelled."""
    async with visitor.open("/begin?wait") as client:
        id = (await client.event()).json()["id"]  # type: ignore[index]
        async with visitor.open(f"/join?id={id}") as other:
            await other.event()
            async with visitor.open(f"/cancel?id={id}") as cancelling:
                await cancelling.rest()
            await other.rest()
            assert other.is_over
        await client.rest()
        assert client.is_over
