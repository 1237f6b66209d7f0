"""Whatever user code raises ends its own stream or request only, with one line in the log."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Request, Response, Server
from trio_sse._transport.socket import SocketTransport

from ..support.cancellations import foreign_cancellation
from ..support.cases import Cases
from ..support.certificates import make_contexts
from ..support.leaks import MakeServer
from ..support.raised import Panic
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until

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


@pytest.mark.slow
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_bystander_lives_on(
    make_server: MakeServer,
    autojump_clock: MockClock,  # a poll ends a handler in time, which may raise before
    caplog: pytest.LogCaptureFixture,
    where: str,
    accept: str,
) -> None:
    with Cases() as cases:
        for make_error in RAISED:
            caplog.clear()
            with cases.case(repr(make_error())):
                await check_bystander(make_server(), where, accept, make_error)
                assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


async def check_bystander(
    server: Server, where: str, accept: str, make_error: Callable[[], BaseException]
) -> None:
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
    if where in ("before the head", "on_connect", "endpoint", "response"):
        assert status == 500
    if where not in ("on_connect", "endpoint", "response"):
        expected = EndReason.FINISHED if where == "on_disconnect" else EndReason.HANDLER_ERROR
        assert ends == [expected]


# What carries a connection

RAISED_BY_STREAMS: list[Callable[[], BaseException]] = [
    *RAISED,
    lambda: trio.BusyResourceError("read elsewhere"),
]


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


@pytest.mark.parametrize("where", ["send_all", "receive_some", "send_eof", "aclose"])
async def test_a_stream_that_raises_ends_only_its_connection(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    with Cases() as cases:
        for make_error in RAISED_BY_STREAMS:
            caplog.clear()
            with cases.case(repr(make_error())):
                await check_stream_that_raises(make_server(), where, make_error)
                lines = {record.getMessage() for record in caplog.records if record.levelname == "ERROR"}
                assert lines <= {"the stream of peer=odd failed"}


async def check_stream_that_raises(
    server: Server, where: str, make_error: Callable[[], BaseException]
) -> None:
    server.route("/live")(live)
    async with in_memory(server) as memory, memory.connect() as bystander:
        await bystander.get("/live")
        connect = await memory.nursery.start(server.serve_in_memory)
        connect(OddStream(where, make_error()), "odd")
        await server.serve_stream(OddStream(where, make_error()), peer="odd")
        await wait_all_tasks_blocked()
        await server.hub.publish("live", "still here")
        assert (await bystander.event()).data == "still here"


class OddSession(ssl.SSLObject):
    """A TLS session that calls code of the application that raises."""

    where: ClassVar[str]
    error: ClassVar[BaseException]

    def _visit(self, here: str, data: bytes) -> None:
        if here == self.where and b"odd" in data:
            raise self.error

    def do_handshake(self) -> None:
        super().do_handshake()
        self._visit("handshake", b"odd")

    def read(self, size: int = 1024, buffer: Any = None) -> bytes:
        data: bytes = super().read(size)
        self._visit("read", data)
        return data

    def write(self, data: Any) -> int:
        self._visit("write", bytes(data))
        return super().write(data)


@pytest.mark.slow
@pytest.mark.parametrize("make_error", RAISED)
@pytest.mark.parametrize("where", ["handshake", "read", "write"])
async def test_a_tls_session_that_raises_ends_only_its_connection(
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    where: str,
    make_error: Callable[[], BaseException],
) -> None:
    server, contexts = make_server(), make_contexts()
    server.route("/live")(live)
    async with (
        on_sockets(server, server_tls=contexts.server, client_tls=contexts.client) as serving,
        await serving.connect() as bystander,
    ):
        await bystander.get("/live")
        OddSession.where, OddSession.error = where, make_error()
        contexts.server.sslobject_class = OddSession
        async with await serving.connect() as client:
            if where != "handshake":
                await client.get("/live")
                await client.send(b"odd")
            await server.hub.publish("live", "odd " * 20_000)
            with suppress(trio.BrokenResourceError):
                await client.closed()
        await server.hub.publish("live", "still here")
        for data in ("odd " * 20_000, "still here"):
            assert (await bystander.event()).data == data
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    expected = {"handshake": "serving peer", "read": "reading from peer", "write": "encrypting for peer"}
    assert [line.partition("=")[0] for line in lines] == [expected[where]]


# What the system refuses


async def test_without_watches_streams_go_on(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def __init__(self) -> None:
            self._epoll = select.epoll()

        def register(self, descriptor: int, events: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._epoll, name)

    refusing = SimpleNamespace(**{**vars(select), "epoll": Refusing})
    monkeypatch.setattr("trio_sse._stream.disconnects.select", refusing)
    server = make_server(keepalive=0.05, write_timeout=0.2)
    server.route("/live")(live)

    @server.endpoint("/slow")
    async def slow(request: Request) -> Response:
        await trio.sleep(0.05)  # it is watched from a moment on
        return Response("slow")

    async with on_sockets(server) as serving:
        async with await serving.connect() as client:
            await client.get("/slow")
            assert await client.whole() == b"slow"
            await client.get("/live")
            await server.hub.publish("live", "here")
            assert (await client.event()).data == "here"
        await until(lambda: server.statistics().open_streams == 0)  # its keepalives are refused
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == ["cannot watch connections for disconnects: No space left on device"]


class RefusingSocket(socket.socket):
    def setsockopt(self, *arguments: Any) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")


async def test_a_socket_that_refuses_an_option_is_closed() -> None:
    connected = RefusingSocket()
    transport = SocketTransport(connected, ("peer", 1))
    await transport.aclose(abort=True)
    assert connected.fileno() == -1
