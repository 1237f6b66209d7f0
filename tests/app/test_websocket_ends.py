"""Every way in which the WebSocket of an ASGI app ends."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import EndReason, Server
from trio_sse.websocket import WebSocketConnection

from ..support.asgi_apps import Receive, Send, accept, websocket_echo
from ..support.client import Client
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until
from ..support.websocket_apps import Event, Recorder, app_of
from ..support.websocket_client import (
    CLOSE,
    HANDSHAKE,
    TEXT,
    Frame,
    WebSocket,
    encode,
    encode_close,
    opened,
)

pytestmark = pytest.mark.usefixtures("protocol")


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


@pytest.mark.parametrize("is_app", [True, False])
async def test_a_client_that_closes_within_a_message_receives_the_rest_and_the_close(
    no_leak: LeakCheck, is_app: bool
) -> None:
    @app_of
    async def app(receive: Receive, send: Send) -> None:
        await accept(receive, send)
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "websocket.send", "bytes": bytes(2_000_000)})

    server = no_leak.watch(Server(app))

    @server.websocket("/native")
    async def native(websocket: WebSocketConnection) -> None:
        while True:
            await websocket.send_bytes(bytes(2_000_000))

    async with on_sockets(server) as serving, WebSocket(await serving.connect()) as websocket:
        assert (await websocket.open("/" if is_app else "/native")).status == 101
        await until(lambda: server.statistics().pending_bytes > 0)
        await websocket.client.send(encode_close(4321))
        assert await websocket.close_code() == (4321, "")
        assert await websocket.is_closed()


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


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("revoked", (4004, "revoked")),
        ("revoked meanwhile", (4004, "revoked")),
        ("closed", (1000, "finished")),
        ("expired", (4005, "expired")),
    ],
)
async def test_the_app_says_whose_it_is_and_receives_how_it_is_ended(
    make_server: MakeServer, how: str, end: tuple[int, str]
) -> None:
    events: list[Event] = []
    ended = trio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        connection = copy.deepcopy(scope)["extensions"]["trio_sse.connection"]
        for value in ("", 7):
            with pytest.raises((TypeError, ValueError)):
                connection.identity = value
        if how == "revoked meanwhile":
            await server.hub.revoke("ada")
        connection.identity = "ada"
        assert (connection.identity, connection.expires_at) == ("ada", None)
        await accept(receive, send)
        with contextlib.suppress(OSError):  # it may have ended
            await send({"type": "websocket.send", "text": "accepted"})
        if how == "expired":
            connection.expires_at = time.time() - 1
        events.append(await receive())
        ended.set()

    server = make_server(app=app)
    async with in_memory(server) as memory, opened(memory, "/") as websocket:
        if how != "revoked meanwhile":
            assert await websocket.message() == "accepted"
        if how == "revoked":
            assert [info.host for info in server.connections(identity="ada")] == ["app"]
            assert await server.hub.revoke("ada") == 1
        if how == "closed":
            assert server.close_connections(identity="ada", reconnect=False) == 1
        assert await websocket.close_code() == end
        await ended.wait()
    assert events == [{"type": "websocket.disconnect", "code": end[0], "reason": end[1]}]
