"""What the code of one request leaves in context variables, the next one on its connection does not see."""

from __future__ import annotations

from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
import trio

from trio_sse import Connection, Request, Response
from trio_sse.asgi import event_stream
from trio_sse.websocket import WebSocketConnection

from ..support import hosts
from ..support.asgi_apps import answer
from ..support.certificates import Certificate
from ..support.client import Client
from ..support.hosts import Run
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.websocket_client import HANDSHAKE

pytestmark = pytest.mark.integration

user: ContextVar[str] = ContextVar("user", default="nobody")
PATHS = ("/endpoint", "/stream", "/poll", "/app", "/app-stream", "/app-later")


def take_turn(path: str) -> str:
    """Return who the last user was, and be the next one."""
    before = user.get()
    user.set(path)
    return before


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    async def stream(connection: Connection) -> None:
        await connection.send(take_turn(scope["path"]))

    assert scope["type"] == "http", "no lifespan here"
    if scope["path"] == "/app-stream":
        await event_stream(stream)(scope, receive, send)
        return
    await answer(send, take_turn(scope["path"]).encode())
    if scope["path"] == "/app-later":
        await trio.sleep(0.05)  # another task has the connection meanwhile
        take_turn("/much-later")


@pytest.mark.parametrize("on_socket", [True, False])
@pytest.mark.parametrize("is_pipelined", [True, False])
async def test_on_our_server(make_server: MakeServer, *, on_socket: bool, is_pipelined: bool) -> None:
    server = make_server(app=app)
    seen: list[tuple[str, str]] = []

    @server.on_connect
    async def connect(connection: Connection | WebSocketConnection) -> None:
        seen.append((connection.request.path, user.get()))

    @server.endpoint("/endpoint")
    async def endpoint(request: Request) -> Response:
        return Response(take_turn("/endpoint"))

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await connection.send(take_turn("/stream"))

    server.route("/poll")(stream)

    @server.websocket("/websocket")
    async def websocket(connection: WebSocketConnection) -> None:
        await connection.start()

    def request(path: str) -> bytes:
        accept = "application/json" if path == "/poll" else "*/*"
        return f"GET {path}?wait=0.01 HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n".encode()

    async def ask(client: Client) -> None:
        paths: tuple[str, ...] = (*PATHS, *reversed(PATHS))
        if is_pipelined:  # what follows the request of a stream at once closes its connection
            paths = ("/endpoint", "/app", "/endpoint", "/app-later", "/app", "/stream")
            await client.send(b"".join(map(request, paths)))
        for path in paths:
            if not is_pipelined:
                await client.send(request(path))
            await client.head()
            assert b"nobody" in await client.whole()
        if not is_pipelined:
            await client.get("/websocket", *HANDSHAKE)

    if on_socket:
        async with on_sockets(server) as serving, await serving.connect() as client:
            await ask(client)
    else:
        token = user.set("who connects")
        async with in_memory(server) as memory:
            user.reset(token)
            async with memory.connect() as client:
                await ask(client)
    assert {user for _, user in seen} == {"nobody"}


@pytest.mark.parametrize(
    "run", [name for name in hosts.NAMES if not name.startswith("native")], indirect=True
)
async def test_on_every_host(run: Run) -> None:
    seen: list[str] = []

    def middleware(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                seen.append(take_turn("before"))
            await app(scope, receive, send)
            user.set("after")

        return call

    async with run(middleware=middleware) as host, await host.connect() as connection:
        for _ in range(3):
            if isinstance(connection, Client):
                await connection.get("/nowhere")
                await connection.whole()
            else:
                await (await connection.request("GET", "/nowhere")).whole()
    assert set(seen) <= {"nobody", "before"}
    assert seen[:: len(seen) // 3] == ["nobody"] * 3  # Quart's own callable is wrapped, too


@pytest.fixture
def run(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    return partial(hosts.running, request.param, no_leak, certificate)
