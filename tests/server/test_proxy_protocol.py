"""Listeners whose connections begin with a header of the PROXY protocol."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_sse import Request, Response, Server

from ..support.certificates import Contexts
from ..support.client import Client
from ..support.hostile import logged
from ..support.leaks import MakeServer
from ..support.waiting import SECONDS, until

FAST = 100.0  # how fast a test's clock may run, while the machine stands still for a moment

V1 = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"
V1_UNKNOWN = b"PROXY UNKNOWN\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GET = b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"


def v2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block)) + block


V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
V2 = v2(0x21, 0x21, V6 + V6 + struct.pack("!HH", 4711, 443) + b"\x04\0\x01x")
V2_LOCAL = v2(0x20, 0, b"")
V2_UNIX = v2(0x21, 0x31, bytes(216))


def make(make_server: MakeServer, **options: object) -> Server:
    """Make a server that trusts 127.0.0.1, with an endpoint that tells its request's peer."""
    server = make_server(**{"trusted_proxies": ["127.0.0.1"], **options})

    @server.endpoint("/")
    async def tell(request: Request) -> Response:
        return Response(request.peer)

    return server


@contextlib.asynccontextmanager
async def serving(
    server: Server, listening: socket.socket | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[trio.SocketStream]:
    """Serve, and connect a client."""
    with trio.fail_after(FAST * SECONDS):
        async with trio.open_nursery() as nursery:
            serve = partial(server.serve, "127.0.0.1", 0)
            if listening is not None:
                serve = partial(server.serve_listeners, [listening])
            (address,) = await nursery.start(partial(serve, proxy_protocol=True, ssl_context=tls))
            if isinstance(address, str):
                stream = await trio.open_unix_socket(address)
            else:
                stream = await trio.open_tcp_stream(*address)
            async with stream:
                yield stream
            nursery.cancel_scope.cancel()


async def ask(stream: trio.abc.Stream, *pieces: bytes) -> str:
    """Send pieces, each by itself; return the body of the response."""
    async with Client(stream) as client:
        for piece in pieces:
            await client.send(piece)
            await trio.lowlevel.checkpoint()
        assert (await client.head()).status == 200
        return (await client.whole()).decode()


def each_byte(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (V1, "203.0.113.7:4711"),
        (V2, "[2001:db8::1]:4711"),
        (V2_UNIX, "unix"),
    ],
)
@pytest.mark.parametrize("are_pieces", [False, True])
async def test_the_header_says_who_the_client_is(
    make_server: MakeServer, header: bytes, peer: str, are_pieces: bool
) -> None:
    async with serving(make(make_server)) as stream:
        pieces = each_byte(header + GET) if are_pieces else [header + GET]
        assert await ask(stream, *pieces) == peer


@pytest.mark.parametrize(("header", "peer"), [(V1_UNKNOWN, "127.0.0.1:"), (V2_LOCAL, "192.0.2.9")])
async def test_only_the_proxy_itself_may_say_more_in_header_fields(
    make_server: MakeServer, header: bytes, peer: str
) -> None:
    async with serving(make(make_server)) as stream:
        assert (await ask(stream, header + GET)).startswith(peer)


async def test_a_proxy_that_is_passed_on_by_another_may_say_who_the_client_is(
    make_server: MakeServer,
) -> None:
    server = make(make_server, trusted_proxies=["127.0.0.1", "203.0.113.7"])
    async with serving(server) as stream:
        assert await ask(stream, V1 + GET) == "192.0.2.9"


async def test_the_scope_of_an_app_has_both_addresses(make_server: MakeServer) -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        assert isinstance(scope, dict)
        assert callable(send)
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{scope['client']} {scope['server']}".encode()})

    server = make_server(app=app, trusted_proxies=["127.0.0.1"])
    async with serving(server) as stream:
        assert await ask(stream, V1 + GET) == "('203.0.113.7', 4711) ('198.51.100.1', 443)"


async def test_the_header_comes_before_tls(make_server: MakeServer, contexts: Contexts) -> None:
    async with serving(make(make_server), tls=contexts.server) as stream:
        await stream.send_all(V2)
        secured = trio.SSLStream(stream, contexts.client, server_hostname="localhost")
        assert await ask(secured, GET) == "[2001:db8::1]:4711"


async def test_a_unix_socket_may_be_a_proxys(make_server: MakeServer, tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    listening.listen()
    async with serving(make(make_server, trusted_proxies=["unix"]), listening) as stream:
        assert await ask(stream, V1 + GET) == "203.0.113.7:4711"


# Refusals


@pytest.mark.parametrize(
    "sent", [GET, b"\x16\x03\x01", b"PROXY TCP4 1.2.3.4\r\n", V2[:12] + b"\x11" * 4, b"PROXY " + b"x" * 200]
)
async def test_a_proxy_that_sends_no_header_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    async with serving(make(make_server)) as stream:
        await stream.send_all(sent)
        with contextlib.suppress(trio.BrokenResourceError):  # it has been refused already
            await stream.send_eof()
        assert await Client(stream).closed() == b""
    assert ["refused peer=127.0.0.1:" in line for line in logged(caplog)[1:]] == [True]


@pytest.mark.parametrize("sent", [b"", b"P", V2[:20]])
async def test_a_check_that_only_connects_is_not_logged(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    async with serving(make(make_server)) as stream:
        if sent:
            await stream.send_all(sent)
        await stream.send_eof()
        assert await Client(stream).closed() == b""
    assert len(logged(caplog)) == 1  # that it serves


@pytest.mark.parametrize("header", [V1, V2])
async def test_others_are_served_as_what_they_are_and_must_send_no_header(
    make_server: MakeServer, header: bytes
) -> None:
    server = make(make_server, trusted_proxies=["192.0.2.1"])
    async with serving(server) as stream:
        assert (await ask(stream, GET)).startswith("127.0.0.1:")
    async with serving(server) as stream, Client(stream) as client:
        await client.send(header + GET)
        assert (await client.head()).status == 400


async def test_without_the_option_a_header_is_no_request(make_server: MakeServer) -> None:
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(partial(make(make_server).serve, "127.0.0.1", 0))
            async with Client(await trio.open_tcp_stream(*address)) as client:
                await client.send(V1 + GET)
                assert (await client.head()).status == 400
            nursery.cancel_scope.cancel()


async def test_a_header_has_ten_seconds(
    make_server: MakeServer, clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    async with serving(make(make_server)) as stream:
        await stream.send_all(V1[:20])
        began_at = trio.current_time()
        clock.rate = FAST
        assert await Client(stream).closed() == b""
        assert trio.current_time() - began_at > 9
    assert "did not arrive in time" in logged(caplog)[-1]


async def test_a_drain_gives_headers_another_second(
    make_server: MakeServer, clock: trio.testing.MockClock
) -> None:
    server = make(make_server)
    async with serving(server) as stream:
        other = await trio.open_tcp_stream(*stream.socket.getpeername())
        await other.send_all(V1[:20])
        await stream.send_all(V1[:20])
        await until(lambda: len(next(iter(server._manager.serve_scopes)).waiting) == 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            await until(lambda: server.statistics().is_draining)
            assert (await ask(stream, V1[20:] + GET)) == "203.0.113.7:4711"
            clock.rate = FAST
            async with other:
                assert await Client(other).closed() == b""


async def test_a_client_that_resets_leaves_nothing(make_server: MakeServer) -> None:
    async with serving(make(make_server)) as stream:
        await stream.send_all(V1[:20])
        await Client(stream).abort()
    async with serving(make(make_server)) as stream:  # it is cancelled while the header is on its way
        await stream.send_all(V1[:20])


async def test_it_needs_trusted_proxies(make_server: MakeServer) -> None:
    with pytest.raises(ValueError, match="needs trusted_proxies"):
        await make_server().serve("127.0.0.1", 0, proxy_protocol=True)
