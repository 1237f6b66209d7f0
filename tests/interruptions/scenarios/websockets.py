"""WebSockets of ours, and of apps."""

from __future__ import annotations

import json

from trio_sse import Server
from trio_sse.websocket import WebSocketConnection, serve_topics

from ...support.websocket_client import TEXT, encode_close
from ..scenario import NATIVE, NO_LOG, Visitor, scenario
from ..world import World


def add_websockets(world: World, server: Server) -> None:
    async def echo(websocket: WebSocketConnection) -> None:
        async for message in websocket:
            assert isinstance(message, str)
            await websocket.send_text(message)

    def may_subscribe(name: str) -> bool:
        world.code("who may subscribe")
        return True

    async def topics(websocket: WebSocketConnection) -> None:
        await serve_topics(websocket, topics=may_subscribe, publish=["live"])

    async def live(websocket: WebSocketConnection) -> None:
        await websocket.subscribe("live")

    for name, handler in {"echo": echo, "topics": topics, "forward": live}.items():
        server.websocket(f"/{name}")(world.handler(handler))


@scenario(extend=add_websockets, hosts=NATIVE, logs=NO_LOG)
async def websocket_echo(visitor: Visitor) -> None:
    """Messages go both ways, and the client closes."""
    async with visitor.websocket("/echo") as websocket:
        for number in range(3):
            await websocket.send(TEXT, f"{number}".encode())
            assert await websocket.message() == f"{number}"
        await websocket.client.send(encode_close())
        assert await websocket.close_code() == (1000, "")


@scenario(extend=add_websockets, hosts=NATIVE)
async def websocket_topics(visitor: Visitor) -> None:
    """The client subscribes, publishes and unsubscribes."""
    async with visitor.websocket("/topics", "Sec-WebSocket-Protocol: trio-sse.v1") as websocket:
        await websocket.send_json(type="subscribe", topics=["live", "other"])
        assert (await websocket.json())["type"] == "topics"
        await websocket.send_json(type="publish", topic="live", data="hello")
        assert "hello" in str(await websocket.json())
        await websocket.send_json(type="unsubscribe", topics=["other"])
        assert (await websocket.json())["topics"] == ["live"]


@scenario(extend=add_websockets, hosts=NATIVE)
async def websocket_forward(visitor: Visitor) -> None:
    """The hub's broadcasts go to a WebSocket, which then reconnects."""
    async with visitor.websocket("/forward") as websocket:
        cursor = json.loads(await websocket.message())["last_event_id"]
        await visitor.publish("1")
        assert (await websocket.json())["data"] == "1"
    async with visitor.websocket(f"/forward?last_event_id={cursor}") as websocket:
        assert (await websocket.json())["data"] == "1"
