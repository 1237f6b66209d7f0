"""The server as a whole: streams over memory and over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Connection, EndReason, Hub, LogSession, LogUnavailable, Server
from trio_sse.testing import Client

from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets


async def test_a_stream_ends_properly_when_its_handler_returns(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/count/{to:int}")
    async def count(connection: Connection, to: int) -> None:
        for n in range(to):
            await connection.send({"n": n}, event="tick", id=str(n))

    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/count/3")
        events = await client.rest()

    assert head.status == 200
    assert head.get("Content-Type") == "text/event-stream"
    assert [(event.event, event.json(), event.id) for event in events] == [
        ("tick", {"n": 0}, "0"),
        ("tick", {"n": 1}, "1"),
        ("tick", {"n": 2}, "2"),
    ]
    assert client.is_ended
    assert server.statistics().ended == {EndReason.FINISHED: 1}


async def test_a_broadcast_reaches_everyone_in_order(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    async with on_sockets(server) as serving:
        clients = [await serving.connect() for _ in range(5)]
        for client in clients:
            await client.get("/live")
        for n in range(3):
            await server.hub.publish("live", n)
        received = [await client.events(3) for client in clients]
        for client in clients:
            await trio.aclose_forcefully(client.stream)

    assert [[event.data for event in events] for events in received] == [["0", "1", "2"]] * 5
    assert received[0] == received[1]


class SilentLog:
    """A shared log that never answers."""

    publish_timeout = 5.0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        await trio.sleep_forever()
        yield


async def test_a_server_whose_log_does_not_answer_can_be_cancelled(autojump_clock: MockClock) -> None:
    server = Server(hub=Hub(log=SilentLog()))
    with trio.move_on_after(3) as scope:
        await server.serve_in_memory(task_status=trio.TASK_STATUS_IGNORED)
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(scope.deadline)
    assert not server.hub.is_running


class UnavailableLog:
    """A shared log that cannot be reached."""

    publish_timeout = 5.0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        raise LogUnavailable("there is no log")
        yield


async def test_health_fails_until_the_log_is_loaded(autojump_clock: MockClock) -> None:
    async with Client(Server(hub=Hub(log=UnavailableLog()))) as client:
        response = await client.get("/health")

    assert response.status == 503
    assert response.json() == {"status": "unavailable", "reason": "log_not_loaded"}


async def test_a_server_that_is_configured_keeps_its_hub_routes_and_hooks(make_server: MakeServer) -> None:
    server = make_server(max_connections=1)
    hub, seen = server.hub, []
    server.on_connect(lambda connection: seen.append(connection.request.path))

    @server.route("/before")
    async def before(connection: Connection) -> None:
        await connection.send("before")

    server.configure(max_connections=5, keepalive=3, drain_timeout=7, max_pending_bytes=1000)

    @server.route("/after")
    async def after(connection: Connection) -> None:
        await connection.send("after")

    for _ in range(2):  # it may be served again
        async with in_memory(server) as serving, serving.connect() as one, serving.connect() as other:
            for client, path in ((one, "/before"), (other, "/after")):
                assert (await client.get(path)).status == 200
            with pytest.raises(RuntimeError, match="before it is served"):
                server.configure(keepalive=4)

    assert server.hub is hub
    assert server.drain_timeout == 7
    assert seen == ["/before", "/after"] * 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"hub": Hub()}, TypeError), ({"keepalive": 0}, ValueError), ({"port": 1}, TypeError)],
)
def test_a_change_that_is_not_acceptable_changes_nothing(
    changes: dict[str, object], error: type[Exception]
) -> None:
    server = Server()
    options = server._options
    with pytest.raises(error):
        server.configure(max_connections=3, **changes)
    assert server._options is options
