"""The WebSockets of an ASGI app: the scope and the handshake."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from trio_sse import EndReason, Server

from ..support import serving
from ..support.asgi_apps import Receive, Send, accept, websocket_echo, websocket_only
from ..support.certificates import Contexts
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until
from ..support.websocket_apps import Event, app_of
from ..support.websocket_client import (
    HANDSHAKE,
    TEXT,
    WebSocket,
    encode_close,
)

pytestmark = pytest.mark.usefixtures("protocol")


# The scope


async def test_the_scope_describes_the_handshake(
    no_leak: LeakCheck, contexts: Contexts, protocol: str
) -> None:
    scopes: list[Event] = []

    @websocket_only
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await accept(receive, send)

    server = no_leak.watch(Server(app))
    target = "/r%C3%BCm?q=%20x"
    for server_tls, client_tls, scheme in ((None, None, "ws"), (contexts.server, contexts.client, "wss")):
        async with (
            on_sockets(server, server_tls=server_tls, client_tls=client_tls) as serving,
            WebSocket(await serving.connect()) as websocket,
        ):
            await websocket.open(target, "Sec-WebSocket-Protocol: b, a", "Sec-WebSocket-Protocol: c")
            assert await websocket.close_code() == (1000, "")
        scope = scopes.pop()
        assert scope["type"] == "websocket"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
        assert scope["scheme"] == scheme
        assert (scope["path"], scope["raw_path"]) == ("/rüm", b"/r%C3%BCm")
        assert (scope["query_string"], scope["root_path"]) == (b"q=%20x", "")
        assert scope["subprotocols"] == ["b", "a", "c"]
        assert scope["server"] == serving.address
        assert scope["client"][0] == "127.0.0.1"
        assert (b"host", b"test") in scope["headers"]
        assert scope["extensions"]["websocket.http.response"] == {}
        assert ("tls" in scope["extensions"]) == (scheme == "wss")
        assert scope["http_version"] == protocol
        # Over HTTP/2, an extended CONNECT has no such fields.
        of_upgrade = {b"connection", b"upgrade", b"sec-websocket-key"}.intersection(dict(scope["headers"]))
        assert len(of_upgrade) == (3 if protocol == "1.1" else 0)
        assert scope["state"] == {}
        assert "method" not in scope


async def test_trusted_proxies_say_who_the_client_is(no_leak: LeakCheck) -> None:
    scopes: list[Event] = []

    @websocket_only
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        scopes.append(scope)

    for trusted in ((), ("127.0.0.1",)):
        server = no_leak.watch(Server(app, trusted_proxies=trusted))
        async with on_sockets(server) as serving, await serving.connect() as client:
            fields = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /v1")
            assert (await client.get("/chat", *HANDSHAKE, *fields)).status == 500
    untold, told = scopes
    assert (untold["scheme"], untold["client"][0], untold["root_path"]) == ("ws", "127.0.0.1", "")
    assert (told["scheme"], told["client"][0], told["root_path"]) == ("wss", "192.0.2.7", "/v1")


async def test_requests_and_routes_are_served_beside_them(make_server: MakeServer) -> None:
    kinds: list[str] = []

    async def app(scope: Event, receive: Receive, send: Send) -> None:
        kinds.append(scope["type"])
        if scope["type"] == "websocket":
            await websocket_echo(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"whole"})
        else:
            raise AssertionError("no lifespan here")

    server = make_server(app=app)

    @server.route("/events")
    async def events(connection: Any) -> None: ...

    async with in_memory(server) as memory, memory.connect() as client:
        assert (await client.get("/")).status == 200
        assert await client.whole() == b"whole"
        websocket = WebSocket(client)
        assert (await websocket.open("/")).status == 101  # on a connection that was kept
        await websocket.send(TEXT, b"hello")
        assert await websocket.message() == "hello"
        async with memory.connect() as other:
            head = await other.get("/events", *HANDSHAKE)
            assert head.status == 400  # a route's path is not the app's

    assert kinds[-2:] == ["http", "websocket"]


# The handshake


@pytest.mark.parametrize(("length", "status"), [("0", 101), ("00", 101), ("3", 400)])
async def test_a_handshake_may_say_that_it_has_no_body(
    make_server: MakeServer, length: str, status: int
) -> None:
    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "text": "hello"})

    server = make_server(app=app)

    @server.websocket("/route")
    async def route(connection: Any) -> None:
        await connection.send("hello")

    async with in_memory(server) as memory:
        for path in ("/", "/route"):
            async with WebSocket(memory.connect()) as websocket:
                head = await websocket.open(path, f"Content-Length: {length}")  # as some proxies do
                assert head.status == status
                if status == 101:
                    assert "hello" in str(await websocket.message())


async def test_accept_has_a_subprotocol_and_fields(make_server: MakeServer) -> None:
    @app_of
    async def app(receive: Receive, send: Send) -> None:
        fields = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"0")]
        await accept(receive, send, subprotocol="chat", headers=fields)

    async with in_memory(make_server(app=app)) as memory, WebSocket(memory.connect()) as websocket:
        head = await websocket.open("/", "Sec-WebSocket-Protocol: chat")
        assert head.status == 101
        assert head.get("Sec-WebSocket-Accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert head.get("Sec-WebSocket-Protocol") == "chat"
        assert [value for name, value in head.fields if name == "set-cookie"] == ["a=1", "b=2"]
        assert head.get("Content-Length") is None
        assert head.get("Sec-WebSocket-Extensions") is None
        assert await websocket.close_code() == (1000, "")
        await websocket.client.send(encode_close())
        assert await websocket.is_closed()


@pytest.mark.parametrize(
    "fields",
    [
        {"subprotocol": "two words"},
        {"headers": [(b"a", b"b\r\nc: d")]},
        {"headers": [(b"a b", b"c")]},
        {"headers": [(b"Sec-WebSocket-Protocol", b"chat")]},
    ],
)
async def test_an_accept_that_cannot_be_sent_is_an_error_of_the_app(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, fields: Event
) -> None:
    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send, **fields)

    async with in_memory(make_server(app=app)) as memory, memory.connect() as client:
        assert (await client.get("/", *HANDSHAKE)).status == 500

    assert "ValueError" in caplog.text


@pytest.mark.http1_only
async def test_an_app_that_closes_instead_of_accepting_refuses_at_once(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    may_return = trio.Event()

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": 4000})
        events.append(await receive())
        events.append(await receive())
        for kind in ("websocket.accept", "websocket.send", "websocket.close"):
            with pytest.raises(RuntimeError, match=kind):
                await send({"type": kind})
        await may_return.wait()

    async with in_memory(make_server(app=app)) as memory, memory.connect() as client:
        assert (await client.get("/", *HANDSHAKE)).status == 403
        assert await client.whole() == b""
        may_return.set()
        assert await client.closed() == b""

    assert [event["type"] for event in events] == ["websocket.connect", "websocket.disconnect"]
    assert "failed" not in caplog.text


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.http1_only
async def test_a_denial_is_a_response_of_the_app(make_server: MakeServer, is_whole: bool) -> None:
    @app_of
    async def app(receive: Receive, send: Send) -> None:
        fields = [(b"x-why", b"because"), (b"content-type", b"text/plain")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": fields})
        await send({"type": "websocket.http.response.body", "body": b"one ", "more_body": True})
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.accept"})
        if is_whole:
            await send({"type": "websocket.http.response.body", "body": b"two"})
            with pytest.raises(RuntimeError):
                await send({"type": "websocket.http.response.body", "body": b"three"})

    async with in_memory(make_server(app=app)) as memory, memory.connect() as client:
        head = await client.get("/", *HANDSHAKE)
        assert (head.status, head.get("x-why"), head.get("Connection")) == (401, "because", "close")
        assert head.get("Sec-WebSocket-Accept") is None
        if is_whole:
            assert await client.whole() == b"one two"
        else:
            await client.rest()
            assert client.is_cut


async def test_a_denial_is_nothing_that_accepts(make_server: MakeServer) -> None:
    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 200})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async with in_memory(make_server(app=app)) as memory, memory.connect() as client:
        head = await client.get("/", *HANDSHAKE)
        assert head.status == (500 if serving.over_http2 else 200)


async def test_a_client_that_leaves_while_it_is_denied_is_no_error(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[str] = []

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401})
        try:
            while True:
                body = {"body": bytes(100_000), "more_body": True}
                await send({"type": "websocket.http.response.body", **body})
        finally:
            ends.append("left")

    server = no_leak.watch(Server(app))
    async with on_sockets(server) as serving:
        async with await serving.connect() as client:
            assert (await client.get("/", *HANDSHAKE)).status == 401
            await client.abort()
        await until(lambda: server._admission.is_empty)

    assert ends == ["left"]
    assert "failed" not in caplog.text


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("accepts", [True, False])
async def test_an_app_that_raises_or_returns_ends_only_its_own_websocket(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, accepts: bool, raises: bool
) -> None:
    caplog.set_level(logging.INFO)

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        if accepts:
            await accept(receive, send)
        if raises:
            raise BaseException("no exception of ours")

    server = make_server(app=app)
    async with on_sockets(server) as serving:
        for _ in range(2):
            async with WebSocket(await serving.connect()) as websocket:
                head = await websocket.open("/chat?token=secret")
                assert head.status == (101 if accepts else 500)
                if accepts:
                    assert await websocket.close_code() == ((1011, "handler_error") if raises else (1000, ""))

    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    if raises:
        assert [error.partition(" peer=")[0] for error in errors] == ["the app failed for path=/chat"] * 2
    else:
        assert errors == [] if accepts else len(errors) == 2
    assert "secret" not in caplog.text
    ends = server.statistics().ended
    expected = EndReason.HANDLER_ERROR if raises else EndReason.FINISHED
    assert ends == ({expected: 2} if accepts else {})
    assert caplog.text.count("open id=") == (2 if accepts else 0)
