"""The numbers of connections in responses, if they are wanted."""

from __future__ import annotations

from typing import Any

import pytest

from trio_sse import Server
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE
from trio_sse.websocket import WebSocketConnection

from ..support.asgi_apps import accept
from ..support.cases import each_case
from ..support.leaks import MakeServer
from ..support.observed_streams import forwarding, observe
from ..support.serving import in_memory
from ..support.websocket_client import WebSocket

NAME = "X-Connection-Id"


@pytest.mark.usefixtures("protocol")
async def test_all_that_a_server_serves_has_the_number(make_server: MakeServer) -> None:
    streams = event_stream(forwarding)

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await accept(receive, send)
            await send({"type": "websocket.send", "text": "x"})
            await receive()
        elif scope["type"] == "http":
            await streams(scope, receive, send)

    server = make_server(app=app, hub=streams.hub)
    server.configure(connection_id_header=NAME)
    observe(server, forwarding)

    @server.websocket("/socket")
    async def socket(websocket: WebSocketConnection) -> None:
        await websocket.send_text("x")

    @server.endpoint("/page")
    async def page(request: Any) -> Any:
        raise KeyError

    found: list[str | None] = []
    async with in_memory(server) as memory:
        for path, lines in (("/", ()), ("/?wait=0", ("Accept: application/json",)), ("/of-the-app", ())):
            async with memory.connect() as client:
                found.append((await client.get(path, *lines)).get(NAME))
        async with memory.connect() as client:
            found.append((await client.get("/", method="HEAD")).get(NAME))
        for path in ("/socket", "/socket-of-the-app"):
            async with WebSocket(memory.connect()) as websocket:
                found.append((await websocket.open(path)).get(NAME))
                assert await websocket.message() == "x"
        async with memory.connect() as client:
            assert (await client.get("/page")).get(NAME) is None  # there is no connection to look for
    assert found == ["1", "2", "3", "4", "5", "6"]


@each_case(
    ("name", "error"),
    [
        ("", ValueError),
        ("X Y", ValueError),
        ("X:", ValueError),
        ("X\r\nY", ValueError),
        ("Connection", ValueError),
        ("content-length", ValueError),
        ("Content-Type", ValueError),
        ("vary", ValueError),
        ("Sec-WebSocket-Accept", ValueError),
        ("Access-Control-Allow-Origin", ValueError),
        (7, TypeError),
    ],
)
def test_a_name_with_another_meaning_is_refused(name: Any, error: type[Exception]) -> None:
    for make in (Server, QuartSSE, lambda **options: event_stream(forwarding, **options)):
        with pytest.raises(error, match="connection_id_header"):
            make(connection_id_header=name)
