"""What ends by itself: requests that stall, idle connections, writes that nobody takes, and outages."""

from __future__ import annotations

import trio

from trio_sse import Connection

from ..scenario import IN_MEMORY, NATIVE, Visitor, scenario
from ..world import World
from .streams import add_endpoint, posted
from .topics import live

VIRTUAL = ("memory", "list")


@scenario(
    streams=posted,
    extend=add_endpoint,
    hosts=NATIVE,
    transports=IN_MEMORY,
    logs=VIRTUAL,
    is_virtual=True,
    is_http1=True,
    server={"body_timeout": 5, "keep_alive": 20},
)
async def requests_that_stall(visitor: Visitor) -> None:
    """Half a head, half a body, and a connection that is idle after a request."""
    async with await visitor.connect() as client:
        await client.send(b"GET /page HTTP/1.1\r\nHost: te")
        await client.closed()
    async with await visitor.connect() as client:
        await client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf")
        assert (await client.head()).status == 408
        await client.closed()
    async with await visitor.connect() as client:
        await visitor.ask(client, "/page")
        await client.whole()
        assert await client.closed() == b""


def stalling(world: World) -> dict[str, object]:
    async def flood(connection: Connection) -> None:
        while True:
            await connection.send("x" * 50_000)

    return {"flood": flood}


@scenario(streams=stalling, transports=IN_MEMORY, logs=VIRTUAL, is_virtual=True, options={"write_timeout": 5})
async def reader_that_stalls(visitor: Visitor) -> None:
    """A client takes nothing, and is disconnected."""
    async with visitor.open("/flood") as client:
        await trio.sleep(30)
        while await client.read():
            pass
        assert client.is_cut


@scenario(streams=live, transports=IN_MEMORY, logs=("list",), is_virtual=True)
async def outage_of_the_log(visitor: Visitor) -> None:
    """A shared log is away for a while; what is published meanwhile comes when it is back."""
    async with visitor.open("/live") as client:
        await visitor.subscribed()
        await visitor.publish("1")
        assert (await client.event()).data == "1"
        try:
            visitor.world.list_log.is_away = True
            await trio.sleep(3)
            visitor.hub.publish_nowait("live", "2")
            await trio.sleep(3)
        finally:
            visitor.world.list_log.is_away = False
        assert (await client.event()).data == "2"
