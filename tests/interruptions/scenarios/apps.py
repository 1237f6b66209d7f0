"""Apps beside streams: their responses, uploads, background work and WebSockets."""

from __future__ import annotations

from typing import Any

import trio

from ...support.asgi_apps import Receive, Send, accept, answer, echo
from ...support.websocket_client import CLOSE, TEXT, Frame, encode_close
from ..scenario import NATIVE, NO_LOG, Visitor, scenario
from ..world import World


def app(world: World) -> Any:
    """Return an app whose paths say what it does."""

    async def respond(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        world.code("an app")
        match scope["path"]:
            case "/background":
                await answer(send, b"answered")
                for _ in range(10):
                    await trio.lowlevel.checkpoint()
                    await world.turns()
                world.code("background work")
            case "/pieces":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                for number in range(3):
                    await world.turns()
                    await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
                    world.code("between two pieces")
                await send({"type": "http.response.body"})
            case _:
                await echo(scope, receive, send)

    async def talk(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        world.code("an app's WebSocket")
        await accept(receive, send)
        message = await receive()
        if message["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
            await receive()

    async def lifespan(receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    async def call(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "websocket":
            await world.handler(talk)(scope, receive, send)
        else:
            await world.handler(respond)(scope, receive, send)

    return call


@scenario(app=app, hosts=NATIVE, logs=NO_LOG)
async def background_work(visitor: Visitor) -> None:
    """An app's call goes on after its response, while the next request is answered."""
    async with await visitor.connect() as client:
        for _ in range(2):
            await visitor.ask(client, "/background")
            assert await client.whole() == b"answered"


@scenario(app=app, hosts=NATIVE, logs=NO_LOG)
async def app_response(visitor: Visitor) -> None:
    """An app responds in pieces."""
    async with await visitor.connect() as client:
        await visitor.ask(client, "/pieces")
        assert await client.whole() == b"012"
        await visitor.ask(client, "/pieces", method="HEAD")
        await visitor.ask(client, "/pieces")
        assert await client.whole() == b"012"


@scenario(app=app, hosts=NATIVE, logs=NO_LOG)
async def app_upload(visitor: Visitor) -> None:
    """An app sends back what is uploaded to it in pieces."""
    async with await visitor.connect() as client:
        await client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 3000\r\n\r\n")
        for _ in range(3):
            await client.send(b"x" * 1000)
            await trio.lowlevel.checkpoint()
        assert (await client.head()).status == 200
        assert await client.whole() == b"x" * 3000


@scenario(app=app, hosts=NATIVE, logs=NO_LOG)
async def app_websocket(visitor: Visitor) -> None:
    """An app's WebSocket sends a message back."""
    async with visitor.websocket("/socket") as websocket:
        await websocket.send(TEXT, b"hello")
        assert await websocket.frame() == Frame(TEXT, b"hello")
        await websocket.client.send(encode_close())
        frame = await websocket.frame()
        assert frame is not None
        assert frame.opcode == CLOSE
