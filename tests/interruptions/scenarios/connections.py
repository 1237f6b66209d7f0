"""How connections begin and what they carry: HTTP/2, the PROXY protocol, uploads; and what operators ask."""

from __future__ import annotations

import trio

from trio_sse import Connection, Subscription

from ...support.console import BEARER, TOKEN
from ...support.waiting import until
from ..scenario import NATIVE, NO_LOG, Visitor, scenario
from ..world import World
from .streams import add_endpoint, numbers
from .topics import live


@scenario(streams=live, is_http2=True, transports=("memory",))
async def streams_of_http2(visitor: Visitor) -> None:
    """Three streams of one connection, of which the client resets one."""
    async with trio.open_nursery() as nursery, await visitor.connect_http2(nursery) as connection:
        streams = [await connection.request("GET", "/live") for _ in range(3)]
        for stream in streams:
            await stream.wait_head()
        await visitor.subscribed(3)
        await streams[0].leave()
        await visitor.publish("1", "2")
        for stream in streams[1:]:
            assert [event.data for event in await stream.events(2)] == ["1", "2"]
        await streams[1].leave()
        again = await connection.request("GET", "/live", f"Last-Event-ID: {streams[1].last_event_id}")
        await again.wait_head()
        await visitor.publish("3")
        assert (await again.event()).data == "3"
        nursery.cancel_scope.cancel()


def flooding(world: World) -> dict[str, object]:
    async def flood(connection: Connection) -> None:
        for _ in range(4):
            await connection.send("x" * 40_000)

    return {"flood": flood}


@scenario(streams=flooding, is_http2=True, transports=("memory",), logs=NO_LOG)
async def window_of_http2(visitor: Visitor) -> None:
    """The window of a stream is closed, while another one goes on."""
    async with trio.open_nursery() as nursery, await visitor.connect_http2(nursery) as connection:
        held = await connection.request("GET", "/flood", held=True)
        await held.wait_head()
        other = await connection.request("GET", "/flood")
        assert len(await other.rest()) == 4
        await held.release()
        assert len(await held.rest()) == 4
        nursery.cancel_scope.cancel()


@scenario(
    streams=numbers,
    hosts=NATIVE,
    transports=("sockets", "tls"),
    is_http1=True,
    server={"trusted_proxies": ["127.0.0.1"]},
    proxy_protocol=True,
    logs=NO_LOG,
)
async def proxy_protocol(visitor: Visitor) -> None:
    """A proxy says who the client is."""
    async with await visitor.connect() as client:
        await visitor.ask(client, "/plain")
        assert len(await client.rest()) == 3


@scenario(
    streams=live,
    hosts=NATIVE,
    transports=("sockets",),
    server={"console": True, "console_token": TOKEN, "metrics_path": "/metrics"},
)
async def operators(visitor: Visitor) -> None:
    """The console's snapshots, and metrics, while a stream is open."""
    async with visitor.open("/live"), visitor.open("/_sse/stream", BEARER) as console:
        await console.event()
        async with visitor.open("/metrics") as metrics:
            assert b"trio_sse" in await metrics.whole()


@scenario(streams=numbers, extend=add_endpoint, hosts=NATIVE, is_http1=True, logs=NO_LOG)
async def requests_at_once(visitor: Visitor) -> None:
    """Requests come together, one asks before it sends its body, and one is malformed."""
    async with await visitor.connect() as client:
        await client.send(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
        for _ in range(2):
            await client.head()
            await client.whole()
        await client.send(
            b"POST /page HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.head()).status == 100
        await client.send(b"hello")
        assert (await client.head()).status == 200
        await client.whole()
        await client.send(b"GET /page HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n")
        assert (await client.head()).status == 400
        await client.closed()


def chatting(world: World) -> dict[str, object]:
    async def chat(connection: Connection) -> None:
        await connection.send("joined")
        try:
            async with world.hub.subscribe("live") as events:
                await world.hub.publish("live", "hello")
                await connection.forward(events)
        finally:
            with trio.move_on_after(1, shield=True):
                await world.hub.publish("gone", "one has left")

    return {"chat": chat}


@scenario(streams=chatting)
async def handlers_that_publish(visitor: Visitor) -> None:
    """Two members of a chat, whose handlers publish that they have come and left."""
    async with visitor.open("/chat") as one:
        assert (await one.event()).data == "joined"
        assert (await one.event()).data == "hello"
        async with visitor.open("/chat") as two:
            await two.events(2)
            assert (await one.event()).data == "hello"


def changing(world: World) -> dict[str, object]:
    subscriptions: list[Subscription] = []

    async def follow(connection: Connection) -> None:
        async with world.hub.subscribe("live", last_event_id=connection.last_event_id) as events:
            subscriptions.append(events)
            try:
                await connection.forward(events)
            finally:
                subscriptions.remove(events)

    async def change(connection: Connection) -> None:
        for events in subscriptions:
            await events.change("other")
        await connection.send("changed")

    return {"follow": follow, "change": change}


@scenario(streams=changing)
async def change_of_topics(visitor: Visitor) -> None:
    """A subscription changes its topics while it is forwarded."""
    async with visitor.open("/follow") as client:
        await visitor.subscribed()
        await visitor.publish("1")
        assert (await client.event()).data == "1"
        async with visitor.open("/change") as changing_it:
            await changing_it.rest()
        await visitor.publish("lost")
        await visitor.publish("a", topic="other")
        assert (await client.event()).data == "a"


@scenario(streams=live)
async def ticker(visitor: Visitor) -> None:
    """A ticker ticks, and ends."""
    async with visitor.open("/live") as client, trio.open_nursery() as nursery:
        await visitor.subscribed()
        nursery.start_soon(tick, visitor)
        assert len(await client.events(2)) == 2
        nursery.cancel_scope.cancel()


async def tick(visitor: Visitor) -> None:
    await visitor.hub.run_ticker("live", every=0.05, singleton=False)


@scenario(streams=live, logs=("memory", "sqlite", "redis"))  # a list remembers no keys
async def repeated_publishing(visitor: Visitor) -> None:
    """A publisher repeats itself with a key, and another one is cancelled while it waits."""
    async with visitor.open("/live") as client:
        await visitor.subscribed()
        key = f"key {visitor.hub.last_event_id}"
        for _ in range(2):
            await visitor.hub.publish("live", "once", idempotency_key=key)
        with trio.CancelScope() as scope:
            scope.cancel()
            await visitor.publish("cancelled")
        await visitor.publish("end")
        received = [await client.event()]
        while received[-1].data != "end":
            received.append(await client.event())
        assert [event.data for event in received].count("once") == 1


@scenario(streams=live, extend=add_endpoint, hosts=NATIVE, server={"cors_origins": ["https://a.example"]})
async def other_origins(visitor: Visitor) -> None:
    """A page of another origin asks whether it may, and then does."""
    lines = ("Origin: https://a.example", "Access-Control-Request-Method: GET")
    async with await visitor.connect() as client:
        await visitor.ask(client, "/live", *lines, method="OPTIONS", status=204)
        await visitor.ask(client, "/live", lines[0])
        await visitor.subscribed()
        await visitor.publish("1")
        assert (await client.event()).data == "1"
    await until(lambda: not visitor.hub.statistics().subscriptions or not visitor.hub.is_running)
