"""The WebSockets of an ASGI app: the handshake, messages, and every way to end."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import EndReason, Server

from ..support.asgi_apps import Receive, Send, accept, websocket_echo, websocket_only
from ..support.certificates import Contexts
from ..support.client import Client
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until
from ..support.websocket_client import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocket,
    encode,
    encode_close,
    opened,
)

pytestmark = pytest.mark.usefixtures("protocol")

Script = Callable[[Receive, Send], Awaitable[None]]
Event = dict[str, Any]


def app_of(script: Script) -> Any:
    """Return an app that runs the script for each WebSocket, whatever its scope."""

    @websocket_only
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await script(receive, send)

    return app


class Recorder:
    """An app that accepts, and records what it receives up to the disconnect."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.app = app_of(self.record)
        self.ended = trio.Event()

    async def record(self, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        while not self.events or self.events[-1]["type"] != "websocket.disconnect":
            self.events.append(await receive())
        self.ended.set()

    @property
    def end(self) -> tuple[int, str]:
        """The code and reason of the disconnect."""
        last = self.events[-1]
        assert last["type"] == "websocket.disconnect"
        return last["code"], last["reason"]


# The scope


@pytest.mark.http1_only
async def test_the_scope_describes_the_handshake(no_leak: LeakCheck, contexts: Contexts) -> None:
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
        assert scope["http_version"] == "1.1"
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
        assert errors == ["the app failed for path=/chat"] * 2
    else:
        assert errors == [] if accepts else len(errors) == 2
    assert "secret" not in caplog.text
    ends = server.statistics().ended
    expected = EndReason.HANDLER_ERROR if raises else EndReason.FINISHED
    assert ends == ({expected: 2} if accepts else {})
    assert caplog.text.count("open id=") == (2 if accepts else 0)


# Messages


async def test_messages_go_both_ways(make_server: MakeServer) -> None:
    recorder = Recorder()

    @websocket_only
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        async def receive_and_answer() -> Event:
            event = await receive()
            if event["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
            return event

        await recorder.record(receive_and_answer, send)  # its first event is the connect

    async with in_memory(make_server(app=app)) as memory, opened(memory, "/") as websocket:
        for opcode, payload in ((TEXT, "grüße".encode()), (BINARY, b"\xff"), (TEXT, b""), (BINARY, b"")):
            await websocket.send(opcode, payload)
            assert await websocket.frame() == Frame(opcode, payload)
        await websocket.client.send(encode_close(4001, b"so long"))
        assert await websocket.close_code() == (4001, "")

    assert recorder.events == [
        {"type": "websocket.receive", "text": "grüße"},
        {"type": "websocket.receive", "bytes": b"\xff"},
        {"type": "websocket.receive", "text": ""},
        {"type": "websocket.receive", "bytes": b"", "text": None},
        {"type": "websocket.disconnect", "code": 4001, "reason": "so long"},
    ]


@pytest.mark.parametrize(
    "message",
    [{}, {"text": None, "bytes": None}, {"text": "half a pair: \ud800"}],
)
async def test_what_cannot_be_sent_is_an_error_and_nothing_is_sent(
    make_server: MakeServer, message: Event
) -> None:
    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send)
        with pytest.raises(ValueError, match=r"text|utf-8"):
            await send({"type": "websocket.send", **message})
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.http.response.start", "status": 200})
        await send({"type": "websocket.send", "bytes": bytearray(b"good")})

    async with in_memory(make_server(app=app)) as memory, opened(memory, "/") as websocket:
        assert await websocket.message() == b"good"
        assert await websocket.close_code() == (1000, "")


async def test_what_came_behind_the_handshake_is_not_lost(no_leak: LeakCheck) -> None:
    handshake = "\r\n".join(["GET / HTTP/1.1", "Host: test", *HANDSHAKE, "", ""]).encode()
    server = no_leak.watch(Server(websocket_echo))

    async def check(client: Client) -> None:
        async with WebSocket(client) as websocket:
            await client.send(handshake + encode(TEXT, b"early") + encode(TEXT, b"second")[:3])
            assert (await client.head()).status == 101
            assert await websocket.message() == "early"
            await client.send(encode(TEXT, b"second")[3:] + encode_close())
            assert await websocket.message() == "second"
            assert await websocket.close_code() == (1000, "")

    async with in_memory(server) as memory:
        await check(memory.connect())
    async with on_sockets(server) as serving:
        await check(await serving.connect())


@pytest.mark.http1_only
async def test_no_request_is_read_behind_a_handshake_that_is_refused(make_server: MakeServer) -> None:
    calls = 0

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await send({"type": "websocket.close"})

    request = "\r\n".join(["GET / HTTP/1.1", "Host: test", *HANDSHAKE, "", ""]).encode()
    async with in_memory(make_server(app=app)) as memory, memory.connect() as client:
        await client.send(request * 2)
        assert (await client.head()).status == 403
        assert await client.closed() == b""

    assert calls == 1


@pytest.mark.http1_only
async def test_an_app_that_does_not_receive_makes_the_client_wait(make_server: MakeServer) -> None:
    may_receive = trio.Event()
    received = 0

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        nonlocal received
        await accept(receive, send)
        await may_receive.wait()
        while (await receive())["type"] == "websocket.receive":
            received += 1

    async with in_memory(make_server(app=app)) as memory:
        client = memory.connect_lockstep()
        async with WebSocket(client) as websocket:
            assert (await websocket.open("/")).status == 101
            sent = 0
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def send_all() -> None:
                        nonlocal sent
                        for _ in range(50):
                            await websocket.send(TEXT, b"message")
                            sent += 1
                        await client.send(encode_close())
                        scope.cancel()

                    nursery.start_soon(send_all)
                    await wait_all_tasks_blocked()
                    assert 16 <= sent < 20
                    may_receive.set()
            assert await websocket.close_code() == (1000, "")

    assert received == 50


@pytest.mark.http1_only
async def test_the_app_waits_while_its_client_is_slow(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    failures: list[BaseException] = []
    events: list[Event] = []

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send)
        began_at = trio.current_time()
        try:
            while True:
                await send({"type": "websocket.send", "text": "x" * 1000})
        except OSError as error:
            failures.append(error)
        assert trio.current_time() - began_at == pytest.approx(7)
        events.append(await receive())

    server = make_server(app=app, write_timeout=7)
    async with in_memory(server) as memory:
        client = memory.connect_lockstep()
        async with WebSocket(client) as websocket:
            assert (await websocket.open("/")).status == 101
            await trio.sleep(10)

    assert len(failures) == 1
    assert events == [{"type": "websocket.disconnect", "code": 1006, "reason": "write_timeout"}]
    assert server.statistics().ended == {EndReason.WRITE_TIMEOUT: 1}


@pytest.mark.http1_only
async def test_the_client_that_has_taken_nothing_for_longest_is_cut_for_the_bound_of_all(
    make_server: MakeServer,
) -> None:
    ends: list[Event] = []

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send)
        try:
            await send({"type": "websocket.send", "bytes": bytes(bytearray(60_000))})
        except OSError:
            ends.append(await receive())

    server = make_server(app=app, max_pending_bytes=100_000)
    async with in_memory(server) as memory:
        clients = [memory.connect_lockstep() for _ in range(2)]
        async with WebSocket(clients[0]) as first, WebSocket(clients[1]) as second:
            for websocket in (first, second):
                assert (await websocket.open("/")).status == 101
                await wait_all_tasks_blocked()
            assert ends == [{"type": "websocket.disconnect", "code": 1006, "reason": "slow_consumer"}]
            assert len(await second.message()) == 60_000
            assert await second.close_code() == (1000, "")

    assert server.statistics().pending_cut == 1


# Bounds


@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_a_message_that_is_too_large_closes_with_1009(
    make_server: MakeServer, is_fragmented: bool
) -> None:
    recorder = Recorder()
    server = make_server(app=recorder.app, websocket_max_message_size=1000)

    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        await websocket.send(BINARY, bytes(1000))
        if is_fragmented:
            await websocket.send(TEXT, bytes(600), is_final=False)
            await websocket.client.send(encode(0, bytes(401))[:4])  # the head is enough
        else:
            await websocket.client.send(encode(BINARY, bytes(1 << 20))[:10])
        expected = (1009, "protocol_error: a message may have at most 1000 bytes")
        assert await websocket.close_code() == expected
        await recorder.ended.wait()

    assert recorder.events[0]["bytes"] == bytes(1000)
    assert recorder.end == expected


async def test_the_default_bound_is_16_mib(make_server: MakeServer) -> None:
    recorder = Recorder()
    server = make_server(app=recorder.app)

    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        head = encode(BINARY, b"", length_form=127)[:2]
        await websocket.client.send(head + (16 * 1024 * 1024 + 1).to_bytes(8))
        code = await websocket.close_code()
        assert code is not None
        assert code[0] == 1009


@pytest.mark.http1_only
async def test_a_server_without_room_refuses_before_the_app_is_called(make_server: MakeServer) -> None:
    calls: list[str] = []
    may_return = trio.Event()

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        calls.append("called")
        await accept(receive, send)
        await send({"type": "websocket.close"})
        await may_return.wait()

    for options, status in (({"max_connections": 1}, 503), ({"max_connections_per_host": 1}, 429)):
        may_return = trio.Event()
        async with in_memory(make_server(app=app, **options)) as memory, opened(memory, "/") as websocket:
            await websocket.send(CLOSE)
            assert await websocket.close_code() == (1000, "")
            async with memory.connect() as client:
                # The WebSocket has ended, but its call goes on.
                assert (await client.get("/", *HANDSHAKE)).status == status
            may_return.set()
            await wait_all_tasks_blocked()
            async with opened(memory, "/"):
                pass

    assert len(calls) == 4


async def test_a_host_that_is_not_allowed_never_reaches_the_app(make_server: MakeServer) -> None:
    server = make_server(app=websocket_echo, allowed_hosts=["example.org"])

    async with in_memory(server) as memory, memory.connect() as client:
        assert (await client.get("/", *HANDSHAKE)).status == 421


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((*HANDSHAKE[:2], "Sec-WebSocket-Version: 8", HANDSHAKE[3]), 426),
        (HANDSHAKE[:3], 400),
        ((*HANDSHAKE, "Content-Length: 3"), 400),
    ],
)
@pytest.mark.http1_only
async def test_an_invalid_handshake_never_reaches_the_app(
    make_server: MakeServer, lines: tuple[str, ...], status: int
) -> None:
    async with in_memory(make_server(app=websocket_echo)) as memory, memory.connect() as client:
        assert (await client.get("/", *lines)).status == status


@pytest.mark.parametrize("options", [{"websocket_max_message_size": 0}, {"websocket_ping_interval": 0}])
def test_an_option_that_is_not_acceptable_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Server(websocket_echo, **options)
    with pytest.raises(ValueError, match=next(iter(options))):
        Server(websocket_echo).configure(**options)


# Pings


async def test_an_idle_client_is_pinged_and_one_that_does_not_answer_is_disconnected(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    recorder = Recorder()
    server = make_server(app=recorder.app, websocket_ping_interval=20, websocket_ping_timeout=10)

    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        opened_at = trio.current_time()
        for number in range(1, 3):
            assert await websocket.frame() == Frame(PING, b"")
            assert trio.current_time() - opened_at == pytest.approx(20 * number)
            await websocket.send(PONG)
        await trio.sleep(15)
        await websocket.send(TEXT, b"any sign of life")
        assert await websocket.frame() == Frame(PING, b"")
        last_at = trio.current_time()
        assert await websocket.close_code() == (1011, "ping timeout")
        assert trio.current_time() - last_at <= 20
        assert await websocket.is_closed()

    assert recorder.end == (1011, "ping timeout")
    assert server.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}


async def test_a_client_is_not_disconnected_because_the_app_is_slow(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    received = 0

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        nonlocal received
        await accept(receive, send)
        await trio.sleep(200)
        while (await receive())["type"] == "websocket.receive":
            received += 1

    server = make_server(app=app, websocket_ping_interval=20, websocket_ping_timeout=10)
    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        for _ in range(40):
            await websocket.send(TEXT, b"x")
        await websocket.client.send(encode_close())
        assert await websocket.close_code() == (1000, "")

    assert received == 40


async def test_pings_may_be_switched_off(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server(app=websocket_echo, websocket_ping_interval=math.inf)

    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        await trio.sleep(1000)
        await websocket.send(PING, b"mine")
        assert await websocket.frame() == Frame(PONG, b"mine")


# Ends


async def test_the_app_closes_with_its_own_code_and_reason(make_server: MakeServer) -> None:
    events: list[Event] = []

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send)
        for code in (0, 999, 1005, 1006, 1015, 5000):
            with pytest.raises(ValueError, match="close code"):
                await send({"type": "websocket.close", "code": code})
        await send({"type": "websocket.send", "text": "last"})
        with pytest.raises(ValueError, match="surrogates"):
            await send({"type": "websocket.close", "code": 4321, "reason": "\ud800"})
        await send({"type": "websocket.close", "code": 4321, "reason": "ü" * 100})
        for kind in ("websocket.send", "websocket.close"):
            with pytest.raises(RuntimeError):
                await send({"type": kind, "text": "after it"})
        events.append(await receive())

    async with in_memory(make_server(app=app)) as memory, opened(memory, "/") as websocket:
        assert await websocket.message() == "last"
        assert await websocket.close_code() == (4321, "ü" * 61)  # what fits into 123 bytes
        await websocket.client.send(encode_close(4321))
        assert await websocket.is_closed()

    assert events == [{"type": "websocket.disconnect", "code": 4321, "reason": "ü" * 100}]


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (encode_close(1001, b"going"), (1001, "going")),
        (encode(CLOSE), (1005, "")),
        (encode(3), (1002, "protocol_error: the opcode 0x3 is reserved")),
        (encode(TEXT, b"\xff"), (1007, "protocol_error: text must be UTF-8")),
        (b"", (1006, "")),
        (encode(TEXT, b"half a frame")[:-2], (1006, "")),
    ],
)
async def test_the_app_receives_how_the_client_has_ended_it(
    make_server: MakeServer, sent: bytes, end: tuple[int, str]
) -> None:
    recorder = Recorder()

    async with in_memory(make_server(app=recorder.app)) as memory:
        async with opened(memory, "/") as websocket:
            await websocket.send(TEXT, b"before")
            await wait_all_tasks_blocked()
            await websocket.client.send(sent)
            await wait_all_tasks_blocked()
        await recorder.ended.wait()

    assert recorder.events[0]["text"] == "before"
    assert len(recorder.events) == 2
    assert recorder.end == end


@pytest.mark.parametrize("resets", [False, True])
async def test_a_client_that_vanishes_is_1006_and_sending_raises_oserror(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture, resets: bool
) -> None:
    log: list[Any] = []
    ended = trio.Event()

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send)
        log.append(await receive())
        log.append(await receive())
        await send({"type": "websocket.close"})  # it is closed: nothing to do
        ended.set()
        await send({"type": "websocket.send", "text": "too late"})

    server = no_leak.watch(Server(app))
    async with on_sockets(server) as serving:
        async with WebSocket(await serving.connect()) as websocket:
            assert (await websocket.open("/")).status == 101
            if resets:
                await websocket.client.abort()
        await ended.wait()
        await until(lambda: server._admission.is_empty)

    assert log == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}] * 2
    assert "failed" not in caplog.text  # the app need not know that a client leaves
    assert server.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}


@pytest.mark.parametrize("on_socket", [False, True])
async def test_a_client_that_leaves_before_it_has_an_answer(no_leak: LeakCheck, on_socket: bool) -> None:
    log: list[Any] = []
    called, ended = trio.Event(), trio.Event()

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "websocket.connect"}
        called.set()
        log.append(await receive())
        for kind in ("websocket.accept", "websocket.http.response.start"):
            with pytest.raises(OSError, match="ended"):
                await send({"type": kind, "status": 200})
        await send({"type": "websocket.close"})
        ended.set()

    server = no_leak.watch(Server(app))
    request = "\r\n".join(["GET / HTTP/1.1", "Host: test", *HANDSHAKE, "", ""]).encode()
    async with on_sockets(server) if on_socket else in_memory(server) as serving:
        client = serving.connect()
        async with client if isinstance(client, Client) else await client as connected:
            await connected.send(request)
            await called.wait()
        await ended.wait()

    assert log == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
    assert server.statistics().opened == 0


async def test_a_call_that_does_not_end_is_cancelled_after_the_request_timeout(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    ended_at: list[float] = []

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send)
        try:
            await trio.sleep_forever()
        finally:
            ended_at.append(trio.current_time())

    server = make_server(app=app, request_timeout=13)
    async with in_memory(server) as memory:
        async with opened(memory, "/stuck?token=secret"):
            await wait_all_tasks_blocked()
        left_at = trio.current_time()
        await until(lambda: ended_at)

    assert ended_at == [pytest.approx(left_at + 13)]
    assert "the app did not end within 13 s after its WebSocket: path=/stuck" in caplog.text
    assert "secret" not in caplog.text


async def test_the_longest_duration_ends_it(make_server: MakeServer, autojump_clock: MockClock) -> None:
    recorder = Recorder()
    server = make_server(app=recorder.app, max_duration=100, websocket_ping_interval=math.inf)

    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        assert await websocket.close_code() == (4000, "max_duration")
        await recorder.ended.wait()

    assert recorder.end == (4000, "max_duration")


async def test_a_drain_closes_them_and_the_app_is_told(make_server: MakeServer) -> None:
    recorder = Recorder()
    server = make_server(app=recorder.app)

    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        await wait_all_tasks_blocked()
        memory.nursery.start_soon(server.drain)
        assert await websocket.close_code() == (1001, "server_shutdown")
        await websocket.client.send(encode_close(1001))
        assert await websocket.is_closed()

    assert recorder.end == (1001, "server_shutdown")


async def test_a_drain_refuses_a_handshake_that_the_app_has_not_answered(make_server: MakeServer) -> None:
    called, may_accept = trio.Event(), trio.Event()
    log: list[Any] = []

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        called.set()
        await may_accept.wait()
        with pytest.raises(OSError, match="shutting down"):
            await accept(receive, send)
        log.append(await receive())

    server = make_server(app=app)
    async with in_memory(server) as memory, memory.connect() as client:
        await client.send("\r\n".join(["GET / HTTP/1.1", "Host: test", *HANDSHAKE, "", ""]).encode())
        await called.wait()
        memory.nursery.start_soon(server.drain)
        await wait_all_tasks_blocked()
        may_accept.set()
        assert (await client.head()).status == 503

    assert log == [{"type": "websocket.disconnect", "code": 1001, "reason": "server_shutdown"}]


async def test_a_server_that_is_cancelled_leaves_nothing(no_leak: LeakCheck) -> None:
    ends: list[str] = []

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        try:
            await accept(receive, send)
            await trio.sleep_forever()
        except trio.Cancelled:
            ends.append("cancelled")
            raise

    server = no_leak.watch(Server(app))
    async with on_sockets(server) as serving:
        client = await serving.connect()
        websocket = WebSocket(client)
        assert (await websocket.open("/")).status == 101
        serving.nursery.cancel_scope.cancel()
    async with websocket:
        assert await websocket.close_code() == (1001, "server_shutdown")

    assert ends == ["cancelled"]
    assert server.statistics().ended == {EndReason.SERVER_SHUTDOWN: 1}


async def test_hooks_are_for_the_streams_of_the_server(make_server: MakeServer) -> None:
    seen: list[object] = []
    server = make_server(app=websocket_echo)
    server.on_connect(seen.append)
    server.on_disconnect(seen.append)

    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        await websocket.send(TEXT, b"x")
        assert await websocket.message() == "x"
        statistics = server.statistics()
        assert (statistics.open_streams, statistics.events_sent) == (1, 1)

    assert seen == []
    assert server.statistics().opened == 1


async def test_several_tasks_of_the_app_may_send_at_once(make_server: MakeServer) -> None:
    @app_of
    async def app(receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, {"type": "websocket.accept"})
            await trio.lowlevel.checkpoint()
            for number in range(20):
                nursery.start_soon(send, {"type": "websocket.send", "text": f"{number}" * 1000})

    async with in_memory(make_server(app=app)) as memory:
        client = memory.connect_lockstep()
        async with WebSocket(client) as websocket:
            assert (await websocket.open("/")).status == 101
            texts = {await websocket.message() for _ in range(20)}

    assert texts == {f"{number}" * 1000 for number in range(20)}


async def test_tasks_of_the_app_that_outlive_its_call_cannot_send(make_server: MakeServer) -> None:
    sends: list[Send] = []

    @app_of
    async def app(receive: Receive, send: Send) -> None:
        sends.append(send)

    async with in_memory(make_server(app=app)) as memory, memory.connect() as client:
        assert (await client.get("/", *HANDSHAKE)).status == 500
        with pytest.raises(RuntimeError):
            await sends[0]({"type": "websocket.accept"})


# Several tasks, and what outlives the call


async def test_two_tasks_that_answer_at_once_are_told_apart(make_server: MakeServer) -> None:
    errors: list[str] = []

    async def script(receive: Receive, send: Send) -> None:
        async def answer(kind: str) -> None:
            try:
                await send({"type": kind, "text": "first", "status": 403})
            except RuntimeError:
                errors.append(kind)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, {"type": "websocket.accept"})
            await trio.lowlevel.checkpoint()  # it has begun, but waits
            for kind in ("websocket.accept", "websocket.send", "websocket.http.response.start"):
                nursery.start_soon(answer, kind)

    async with in_memory(make_server(app=app_of(script))) as memory, opened(memory, "/") as client:
        assert await client.frame() == Frame(TEXT, b"first")
    assert sorted(errors) == ["websocket.accept", "websocket.http.response.start"]


async def test_a_denial_that_is_incomplete_is_cut_without_an_error_of_the_server(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"part", "more_body": True})

    async with in_memory(make_server(app=app_of(script))) as memory, memory.connect() as client:
        assert (await client.get("/", *HANDSHAKE)).status == 401
        await client.rest()
        assert client.is_cut
    assert not [record for record in caplog.records if record.name == "trio_sse.server"]
