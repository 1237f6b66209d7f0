"""Whatever user code raises ends its own stream or request only, with one line in the log."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Request, Response, Server

from ..support.cancellations import foreign_cancellation
from ..support.certificates import make_contexts
from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets


class Panic(BaseException):
    """As a panic of foreign code arrives in Python."""


RAISED: list[Callable[[], BaseException]] = [
    lambda: ValueError("why"),
    lambda: ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    asyncio.CancelledError,
    GeneratorExit,
    lambda: SystemExit(3),
    Panic,
    foreign_cancellation,
]


async def live(connection: Connection) -> None:
    await connection.subscribe("live")


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

    server.route("/live")(live)
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


# What carries a connection


class OddStream(trio.abc.HalfCloseableStream):
    """A stream of the application's, which raises in one of its methods."""

    def __init__(self, where: str, error: BaseException) -> None:
        self._where = where
        self._error = error
        self._request = b"GET /live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"

    def _visit(self, here: str) -> None:
        if here == self._where:
            raise self._error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._visit("send_all")

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        request, self._request = self._request, b""
        if not request:
            self._visit("receive_some")
            if self._where == "send_all":
                await trio.sleep_forever()
        return request

    async def send_eof(self) -> None:
        self._visit("send_eof")

    async def aclose(self) -> None:
        self._visit("aclose")


@pytest.mark.parametrize("make_error", [*RAISED, lambda: trio.BusyResourceError("read elsewhere")])
@pytest.mark.parametrize("where", ["send_all", "receive_some", "send_eof", "aclose"])
async def test_a_stream_that_raises_ends_only_its_connection(
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    where: str,
    make_error: Callable[[], BaseException],
) -> None:
    server = make_server()
    server.route("/live")(live)
    async with in_memory(server) as memory, memory.connect() as bystander:
        await bystander.get("/live")
        connect = await memory.nursery.start(server.serve_in_memory)
        connect(OddStream(where, make_error()), "odd")
        await server.serve_stream(OddStream(where, make_error()), peer="odd")
        await wait_all_tasks_blocked()
        await server.hub.publish("live", "still here")
        assert (await bystander.event()).data == "still here"
    lines = {record.getMessage() for record in caplog.records if record.levelname == "ERROR"}
    assert lines <= {"the stream of peer=odd failed"}


class OddSession(ssl.SSLObject):
    """A TLS session whose handshake calls code of the application that raises."""

    error: ClassVar[BaseException]

    def do_handshake(self) -> None:
        raise self.error


@pytest.mark.parametrize("make_error", RAISED)
async def test_a_handshake_that_raises_ends_only_its_connection(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, make_error: Callable[[], BaseException]
) -> None:
    server, contexts = make_server(), make_contexts()
    server.route("/live")(live)
    async with (
        on_sockets(server, server_tls=contexts.server, client_tls=contexts.client) as serving,
        await serving.connect() as bystander,
    ):
        await bystander.get("/live")
        OddSession.error = make_error()
        contexts.server.sslobject_class = OddSession
        with pytest.raises(trio.BrokenResourceError):
            async with await serving.connect() as client:
                await client.get("/live")
        await server.hub.publish("live", "still here")
        assert (await bystander.event()).data == "still here"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [line.partition("=")[0] for line in lines] == ["serving peer"]
