"""A generator that user code leaves inside a nursery is closed, wherever that code is called."""

from __future__ import annotations

import pytest

from trio_sse import Connection, Request, Response, Run, Runs, Server
from trio_sse.websocket import WebSocketConnection

from ..support.leaks import MakeServer
from ..support.left_generators import LeftGenerators
from ..support.serving import in_memory
from ..support.websocket_client import opened


def add_routes(server: Server, left: LeftGenerators) -> None:
    """Add what leaves a generator: a stream, with a hook; an endpoint; a run; and a WebSocket."""
    runs = Runs(server.hub)

    async def work(run: Run) -> None:
        await left.leave()
        await run.append("one")

    @server.on_connect
    async def connect(connection: Connection | WebSocketConnection) -> None:
        await left.leave()

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await left.leave()
        await connection.send("one")

    @server.endpoint("/endpoint")
    async def endpoint(request: Request) -> Response:
        await left.leave()
        return Response("one")

    @server.route("/run")
    async def run(connection: Connection) -> None:
        await (await runs.start(work)).stream(connection)

    @server.websocket("/websocket")
    async def websocket(websocket: WebSocketConnection) -> None:
        await left.leave()
        await websocket.send_text("one")


@pytest.mark.parametrize(
    ("path", "line", "count"),
    [
        ("/stream", "Accept: text/event-stream", 2),
        ("/stream", "Accept: application/json", 2),
        ("/endpoint", "Accept: */*", 1),
        ("/run", "Accept: text/event-stream", 2),
    ],
    ids=["stream", "poll", "endpoint", "run"],
)
async def test_requests(make_server: MakeServer, path: str, line: str, count: int) -> None:
    server, left = make_server(), LeftGenerators()
    add_routes(server, left)
    async with in_memory(server) as memory:
        for number in (1, 2):
            async with memory.connect() as client:
                await client.get(path, line, "Connection: close")
                assert b"one" in await client.closed()
            assert left.opened == left.closed == number * count


async def test_websockets(make_server: MakeServer) -> None:
    server, left = make_server(), LeftGenerators()
    add_routes(server, left)
    async with in_memory(server) as memory:
        for number in (1, 2):
            async with opened(memory, "/websocket") as websocket:
                assert await websocket.message() == "one"
                assert await websocket.close_code() == (1000, "finished")
            assert left.opened == left.closed == 2 * number
