"""What WebSockets of an ASGI app are bounded by, and their pings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import EndReason, Server

from ..support.asgi_apps import Receive, Send, accept, websocket_echo
from ..support.cases import each_case
from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS
from ..support.websocket_apps import Recorder, app_of
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


@each_case("options", [{"websocket_max_message_size": 0}, {"websocket_ping_interval": 0}])
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


async def test_pings_are_sent_on_a_socket(make_server: MakeServer) -> None:
    server = make_server(app=websocket_echo, websocket_ping_interval=0.01, websocket_ping_timeout=SECONDS)

    async with on_sockets(server) as serving, WebSocket(await serving.connect()) as websocket:
        assert (await websocket.open("/")).status == 101
        for text in (b"one", b"two"):
            assert await websocket.frame() == Frame(PING, b"")
            await websocket.send(TEXT, text)
            while (frame := await websocket.frame()) == Frame(PING, b""):
                await websocket.send(PONG)
            assert frame == Frame(TEXT, text)


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
