"""What only apps have: middleware around streams, Quart's own responses and WebSockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import trio
from quart import websocket
from quart_trio import QuartTrio
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from trio_sse.quart import QuartSSE

from ...support.websocket_client import TEXT, encode_close
from ..scenario import NO_LOG, Visitor, scenario
from ..world import World
from .streams import numbers
from .topics import live

QUART = ("quart",)
APPS = ("quart", "starlette", "fastapi")


class AddsField(BaseHTTPMiddleware):
    """Runs the app in a task of its own, and sends what the app sends from another one."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Added"] = "yes"
        return response


def in_a_task(world: World, app: Any) -> Any:
    """Return middleware that calls the app in a scope, which is cancelled as a handler is."""

    async def call(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await world.handler(app)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return AddsField(call)  # type: ignore[arg-type]


@scenario(streams=numbers, middleware=in_a_task, hosts=APPS, logs=NO_LOG)
async def handing_over_under_middleware(visitor: Visitor) -> None:
    """An app's stream takes over its connection, from a call in another task."""
    async with await visitor.connect() as client:
        await visitor.ask(client, "/plain")
        assert len(await client.rest()) == 3


@scenario(streams=live, middleware=in_a_task, hosts=APPS)
async def topic_under_middleware(visitor: Visitor) -> None:
    """A stream of a topic goes on, although its call could be cancelled."""
    async with visitor.open("/live") as client:
        await visitor.subscribed()
        await visitor.publish("1", "2")
        assert len(await client.events(2)) == 2


def extend(world: World, app: QuartTrio, sse: QuartSSE) -> None:
    @app.get("/generated")
    async def generated() -> Any:
        async def generate() -> AsyncIterator[bytes]:
            try:
                for number in range(3):
                    world.code("a generator")
                    await world.turns()
                    yield b"%d" % number
            finally:
                world.code("a generator's clean-up")

        return generate(), {"Content-Type": "text/plain"}

    @app.websocket("/echo")
    async def echo() -> None:
        await websocket.accept()
        while True:
            message = await websocket.receive()
            world.code("a WebSocket of Quart")
            await websocket.send(message)

    @app.websocket("/topics")
    async def topics() -> None:
        await sse.serve_topics(topics=["live"], publish=["live"])

    @app.after_request
    async def take_a_moment(response: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return response


@scenario(extend_quart=extend, hosts=QUART, logs=NO_LOG)
async def generator_of_quart(visitor: Visitor) -> None:
    """A view returns a generator."""
    async with visitor.open("/generated") as client:
        assert await client.whole() == b"012"


@scenario(extend_quart=extend, hosts=QUART, transports=("memory", "sockets", "tls"), logs=NO_LOG)
async def websocket_of_quart(visitor: Visitor) -> None:
    """Messages go both ways on a WebSocket of Quart."""
    async with visitor.websocket("/echo") as opened:
        for number in range(2):
            await opened.send(TEXT, f"{number}".encode())
            assert await opened.message() == f"{number}"
        await opened.client.send(encode_close())
        await opened.close_code()


@scenario(extend_quart=extend, hosts=QUART, transports=("memory", "sockets", "tls"))
async def topics_of_quart(visitor: Visitor) -> None:
    """The subprotocol on a WebSocket of Quart."""
    async with visitor.websocket("/topics", "Sec-WebSocket-Protocol: trio-sse.v1") as opened:
        await opened.send_json(type="subscribe", topics=["live"])
        assert (await opened.json())["type"] == "topics"
        await opened.send_json(type="publish", topic="live", data="hello")
        assert "hello" in str(await opened.json())
