"""Whatever user code raises ends its own stream or request only, with one line in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Request, Response, Server

from ..support.leaks import MakeServer
from ..support.serving import in_memory


class Panic(BaseException):
    """As a panic of foreign code arrives in Python."""


RAISED: list[Callable[[], BaseException]] = [
    lambda: ValueError("why"),
    lambda: ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    asyncio.CancelledError,
    GeneratorExit,
    lambda: SystemExit(3),
    Panic,
]


def place(server: Server, where: str, error: BaseException) -> None:
    """Add a route `/` whose code raises at this place."""
    if where == "endpoint":

        @server.endpoint("/")
        async def endpoint(request: Request) -> Response:
            raise error

        return
    if where == "response":

        @server.endpoint("/")
        async def odd(request: Request) -> Response:
            odd: Any = 17
            return Response(odd)

        return

    @server.route("/")
    async def handler(connection: Connection) -> None:
        if where == "before the head":
            raise error
        await connection.start()
        if where == "after the head":
            raise error
        try:
            await connection.send("one")
            if where == "in mid-stream":
                raise error
        finally:
            if where == "in finally":
                raise error

    if where == "on_connect":

        @server.on_connect
        def connect(connection: Connection) -> None:
            if connection.request.path == "/":
                raise error

    if where == "on_disconnect":

        @server.on_disconnect
        def disconnect(connection: Connection) -> None:
            if connection.request.path == "/":
                raise error


PLACES = [
    "before the head",
    "after the head",
    "in mid-stream",
    "in finally",
    "on_connect",
    "on_disconnect",
    "endpoint",
    "response",
]


@pytest.mark.parametrize("make_error", RAISED)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_bystander_lives_on(
    make_server: MakeServer,
    autojump_clock: MockClock,  # a poll ends a handler in time, which may raise before
    caplog: pytest.LogCaptureFixture,
    where: str,
    accept: str,
    make_error: Callable[[], BaseException],
) -> None:
    server = make_server()
    ends: list[EndReason | None] = []
    server.on_disconnect(lambda c: ends.append(c.end_reason) if c.request.path == "/" else None)

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    place(server, where, make_error())

    async with in_memory(server) as serving, serving.connect() as bystander:
        await bystander.get("/live")
        async with serving.connect() as client:
            await client.send(f"GET /?wait=1 HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n".encode())
            await wait_all_tasks_blocked()
            status = (await client.head()).status
        await server.hub.publish("live", "still here")
        assert (await bystander.event()).data == "still here"
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    if where in ("before the head", "on_connect", "endpoint", "response"):
        assert status == 500
    if where not in ("on_connect", "endpoint", "response"):
        expected = EndReason.FINISHED if where == "on_disconnect" else EndReason.HANDLER_ERROR
        assert ends == [expected]
