"""Servers that end streams, or refuse them."""

from __future__ import annotations

import time

import trio

from trio_sse import Connection

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
