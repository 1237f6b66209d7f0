"""How a WebSocket ends, and when."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from trio_sse import Connection, EndReason, HTTPException
from trio_sse.websocket import WebSocketConnection

from ..support.leaks import MakeServer
from ..support.serving import in_memory
from ..support.websocket_client import (
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocket,
    echo,
    encode,
    encode_close,
    opened,
)
from ..support.websocket_handlers import Ends, idle, news

pytestmark = pytest.mark.usefixtures("protocol")

# Time


async def test_an_idle_connection_is_pinged(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(keepalive=15)
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, opened(memory, "/idle") as websocket:
        opened_at = trio.current_time()
        for number in (1, 2):
            assert await websocket.frame() == Frame(PING, b"")
            assert trio.current_time() - opened_at == pytest.approx(15 * number)
            await websocket.send(PONG)


async def test_the_maximum_duration_closes_with_4000(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(max_duration=100)
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, opened(memory, "/idle") as websocket:
        assert await websocket.close_code() == (4000, "max_duration")
        assert 80 <= trio.current_time() <= 101


async def test_a_client_that_takes_nothing_is_disconnected_after_the_write_timeout(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(write_timeout=7)
    ends = Ends(server)

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await websocket.start()
        await websocket.send_bytes(bytes(10))

    async with in_memory(server) as memory, WebSocket(memory.connect_lockstep()) as websocket:
        await websocket.open("/ws")
        await trio.sleep(6)
        assert ends.reasons == []
        await trio.sleep(2)
        assert ends.reasons == [EndReason.WRITE_TIMEOUT]


# The end


async def test_a_handler_that_returns_closes_with_1000(make_server: MakeServer) -> None:
    server = make_server()
    ends = Ends(server)

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        pass

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        assert await websocket.close_code() == (1000, "finished")
        await websocket.client.send(encode_close())
        assert await websocket.is_closed()

    assert ends.reasons == [EndReason.FINISHED]


async def test_a_handler_that_fails_closes_with_1011(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        await websocket.start()
        raise RuntimeError("a defect")

    with caplog.at_level(logging.CRITICAL, "trio_sse"):
        async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
            assert await websocket.close_code() == (1011, "handler_error")


async def test_a_handler_that_has_closed_its_websocket_may_refuse_the_handshake(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        websocket.close(4321, "enough")
        raise HTTPException(403, "not you")

    async with in_memory(server) as memory, memory.connect() as client:
        assert (await client.get("/ws", *HANDSHAKE)).status == 403
        assert await client.whole() == b"not you\n"
        assert await client.closed() == b""


async def test_the_application_may_choose_the_code(make_server: MakeServer) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        for code, reason in (
            (999, ""),
            (1005, ""),
            (1006, ""),
            (1015, ""),
            (2000, ""),
            (5000, ""),
            (1000, "x" * 124),
        ):
            with pytest.raises(ValueError, match="close"):
                websocket.close(code, reason)
        websocket.close(4321, "enough")
        await trio.sleep_forever()

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        assert await websocket.close_code() == (4321, "enough")


async def test_a_hook_may_make_the_client_reconnect_with_4002(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)
    connections: list[Connection] = []
    server.on_connect(connections.append)

    async with in_memory(server) as memory, opened(memory, "/idle") as websocket:
        connections[0].close(reconnect=True)
        assert await websocket.close_code() == (4002, "reconnect")


async def test_a_drain_closes_with_1001(make_server: MakeServer) -> None:
    server = make_server()
    server.websocket("/idle")(idle)

    async with in_memory(server) as memory, opened(memory, "/idle") as websocket:
        memory.nursery.start_soon(server.drain)
        assert await websocket.close_code() == (1001, "server_shutdown")
        await websocket.client.send(encode_close(1001))
        assert await websocket.is_closed()


@pytest.mark.parametrize(("code", "answer"), [(None, 1000), (1000, 1000), (1001, 1001), (4567, 4567)])
async def test_a_close_of_the_client_is_answered_with_its_code(
    make_server: MakeServer, code: int | None, answer: int
) -> None:
    server = make_server()
    server.websocket("/echo")(echo)
    ends = Ends(server)

    async with in_memory(server) as memory, opened(memory, "/echo") as websocket:
        await websocket.client.send(encode_close(code))
        assert await websocket.close_code() == (answer, "")
        assert await websocket.is_closed()

    assert ends.reasons == [EndReason.CLIENT_DISCONNECTED]


async def test_the_handler_receives_what_was_sent_before_the_close_first(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()
    taken: list[str | bytes] = []
    reasons: list[EndReason | None] = []

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        try:
            async for message in websocket:
                await trio.sleep(1)
                taken.append(message)
        finally:
            reasons.append(websocket.end_reason)

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.client.send(encode(TEXT, b"one") + encode(TEXT, b"two") + encode_close())
        assert await websocket.close_code() == (1000, "")
        assert trio.current_time() == pytest.approx(2)

    assert taken == ["one", "two"]
    assert reasons == [EndReason.CLIENT_DISCONNECTED]


async def test_a_handler_that_does_not_finish_in_time_is_cancelled(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        async for _ in websocket:
            await trio.sleep(60)

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.client.send(encode(TEXT, b"one") + encode_close())
        assert await websocket.close_code() == (1000, "")
        assert trio.current_time() == pytest.approx(5)


async def test_a_handler_that_only_sends_is_cancelled_when_the_client_disconnects(
    make_server: MakeServer,
) -> None:
    server = make_server()
    server.websocket("/ws")(news)
    ends = Ends(server)

    async with in_memory(server) as memory:
        async with opened(memory, "/ws") as websocket:
            await websocket.send(TEXT, b"nobody reads this")
            await websocket.client.send(encode_close())
            assert await websocket.close_code() == (1000, "")
        async with opened(memory, "/ws"):
            pass  # and without a close frame
        await trio.testing.wait_all_tasks_blocked()

    assert ends.reasons == [EndReason.CLIENT_DISCONNECTED] * 2


@pytest.mark.http1_only
async def test_the_server_does_not_wait_long_for_the_answer_to_its_close(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server()

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        pass

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        assert await websocket.close_code() == (1000, "finished")
        for _ in range(3):
            await websocket.send(TEXT, b"and another thing")
            await trio.sleep(1)
        assert await websocket.is_closed()
        assert trio.current_time() == pytest.approx(5)


async def test_a_task_outside_of_the_connection_gets_an_error_once_it_ended(make_server: MakeServer) -> None:
    server = make_server()
    connections: list[WebSocketConnection] = []

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        connections.append(websocket)

    async with in_memory(server) as memory, opened(memory, "/ws") as websocket:
        await websocket.close_code()
        for attempt in (connections[0].receive(), connections[0].send_text("x"), connections[0].send("x")):
            with pytest.raises(trio.ClosedResourceError, match="has ended"):
                await attempt
