"""Streams of a handler's own events, and of requests that bring something."""

from __future__ import annotations

import trio

from trio_sse import Connection, HTTPException, Response, Server

from ..scenario import IN_MEMORY, NATIVE, NO_LOG, Visitor, scenario
from ..world import World


def numbers(world: World) -> dict[str, object]:
    async def plain(connection: Connection) -> None:
        for number in range(3):
            await connection.send(f"{number}")
            await world.turns()

    return {"plain": plain}


@scenario(streams=numbers, logs=NO_LOG)
async def plain_stream(visitor: Visitor) -> None:
    """A handler sends three events, and returns."""
    async with visitor.open("/plain") as client:
        assert [event.data for event in await client.rest()] == ["0", "1", "2"]
        assert client.is_ended


@scenario(streams=numbers, transports=("memory", "sockets", "tls"), logs=NO_LOG)
async def one_connection(visitor: Visitor) -> None:
    """Three streams, one after the other, on one connection."""
    async with await visitor.connect() as client:
        for _ in range(3):
            await visitor.ask(client, "/plain")
            assert len(await client.rest()) == 3


@scenario(streams=numbers, logs=NO_LOG)
async def two_clients(visitor: Visitor) -> None:
    """Two clients at the same time, of which one leaves early."""
    async with visitor.open("/plain") as leaving, visitor.open("/plain") as staying:
        await leaving.event()
        await leaving.leave()
        assert len(await staying.rest()) == 3


def posted(world: World) -> dict[str, object]:
    async def echo(connection: Connection) -> None:
        await connection.send(f"{len(connection.request.body)}")

    return {"echo": echo}


@scenario(
    streams=posted,
    hosts=("native", "starlette", "fastapi", "litestar"),
    transports=("memory", "sockets", "tls"),
    logs=NO_LOG,
)
async def upload_then_stream(visitor: Visitor) -> None:
    """A body comes in pieces, and then a stream goes."""
    async with await visitor.connect() as client:
        await client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 3000\r\n\r\n")
        for _ in range(3):
            await client.send(b"x" * 1000)
            await trio.lowlevel.checkpoint()
        assert (await client.head()).status == 200
        assert [event.data for event in await client.rest()] == ["3000"]


def nursery(world: World) -> dict[str, object]:
    async def both(connection: Connection) -> None:
        async def send(text: str) -> None:
            await world.turns()
            await connection.send(text)

        async with trio.open_nursery() as inside:
            for _ in range(4):
                inside.start_soon(send, "x")

    return {"both": both}


@scenario(streams=nursery, logs=NO_LOG)
async def tasks_of_a_handler(visitor: Visitor) -> None:
    """Four tasks of a handler send at the same time."""
    async with visitor.open("/both") as client:
        assert len(await client.rest()) == 4


def refusing(world: World) -> dict[str, object]:
    async def refuses(connection: Connection) -> None:
        await world.turns()
        raise HTTPException(403, "not you")

    async def answers(connection: Connection) -> Response:
        return Response("made", status=201)

    async def closes(connection: Connection) -> None:
        await connection.send("1")
        connection.close(reconnect=True)
        await trio.sleep_forever()

    return {"refuses": refuses, "answers": answers, "closes": closes}


@scenario(streams=refusing, logs=NO_LOG)
async def refusals(visitor: Visitor) -> None:
    """A handler refuses, another one answers with a response, and one closes its stream."""
    async with visitor.open("/refuses", status=403) as client:
        await client.whole()
    async with visitor.open("/answers", status=201) as client:
        assert await client.whole() == b"made"
    async with visitor.open("/closes") as client:
        assert len(await client.rest()) == 1


def large(world: World) -> dict[str, object]:
    async def flood(connection: Connection) -> None:
        for _ in range(6):
            await connection.send("x" * 40_000)

    return {"flood": flood}


@scenario(streams=large, options={"write_timeout": 90}, logs=NO_LOG)
async def slow_reader(visitor: Visitor) -> None:
    """A client reads slowly what is larger than all buffers."""
    async with visitor.open("/flood") as client:
        count = 0
        while data := await client.read():
            count += len(data)
            await trio.sleep(0.001)
        assert count > 240_000


def kept(world: World) -> dict[str, object]:
    async def quiet(connection: Connection) -> None:
        await connection.start()
        await trio.sleep(40)
        await connection.send("1")

    return {"quiet": quiet}


@scenario(streams=kept, transports=IN_MEMORY, logs=("memory",), is_virtual=True)
async def keepalive(visitor: Visitor) -> None:
    """A quiet stream is kept alive by comments."""
    async with visitor.open("/quiet") as client:
        assert len(await client.rest()) == 1
        assert client.body.count(b":\n") >= 2


def endless(world: World) -> dict[str, object]:
    async def ticks(connection: Connection) -> None:
        number = 0
        while True:
            await connection.send(f"{number}")
            number += 1
            await trio.sleep(4)

    return {"ticks": ticks}


@scenario(
    streams=endless, transports=IN_MEMORY, logs=("memory",), is_virtual=True, options={"max_duration": 20}
)
async def longest_duration(visitor: Visitor) -> None:
    """A stream reaches its maximum duration, and its client reconnects."""
    for _ in range(2):
        async with visitor.open("/ticks") as client:
            assert await client.rest()
            assert client.is_cut or client.is_ended


def add_endpoint(world: World, server: Server) -> None:
    async def page(request: object) -> Response:
        await world.turns()
        return Response("a page")

    server.endpoint("/page", methods=["GET", "POST"])(world.handler(page, Response("cancelled", status=503)))


@scenario(streams=numbers, extend=add_endpoint, hosts=NATIVE, logs=NO_LOG)
async def endpoint(visitor: Visitor) -> None:
    """Endpoints, a health check, a HEAD and a stream on one connection."""
    async with await visitor.connect() as client:
        for path in ("/page", "/health", "/readyz", "/page"):
            await visitor.ask(client, path)
            await client.whole()
        await visitor.ask(client, "/page", method="POST", body=b"x" * 2000)
        assert await client.whole() == b"a page"
        await visitor.ask(client, "/plain", method="HEAD")
        await visitor.ask(client, "/nothing", status=404)
        await client.whole()
        await visitor.ask(client, "/plain")
        assert len(await client.rest()) == 3
