"""The messages of WebSockets of an ASGI app, and who waits for whom."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import EndReason, Server

from ..support.asgi_apps import Receive, Send, accept, websocket_echo, websocket_only
from ..support.client import Client
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import until
from ..support.websocket_apps import Event, Recorder, app_of
from ..support.websocket_client import (
    BINARY,
    HANDSHAKE,
    TEXT,
    Frame,
    WebSocket,
    encode,
    encode_close,
    opened,
)

pytestmark = pytest.mark.usefixtures("protocol")


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
        assert trio.current_time() - began_at == pytest.approx(7, abs=0.1)
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
    make_server: MakeServer, autojump_clock: MockClock
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
                await trio.sleep(1)
            await until(lambda: ends)
            assert ends == [{"type": "websocket.disconnect", "code": 1006, "reason": "slow_consumer"}]
            assert len(await second.message()) == 60_000
            assert await second.close_code() == (1000, "")

    assert server.statistics().pending_cut == 1
