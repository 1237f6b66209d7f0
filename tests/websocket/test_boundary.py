"""Whatever a WebSocket's handler raises ends its own WebSocket only, with one line in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import trio

from trio_sse import Connection, EndReason
from trio_sse.websocket import WebSocketConnection

from ..support.cancellations import foreign_cancellation
from ..support.leaks import MakeServer
from ..support.raised import Panic, Unprintable, deep_group
from ..support.serving import in_memory
from ..support.websocket_client import HANDSHAKE, TEXT, WebSocket, opened
from ..support.websocket_handlers import Ends, news


@pytest.mark.slow
@pytest.mark.parametrize(
    "make_error",
    [
        lambda: ValueError("why"),
        lambda: BaseExceptionGroup("several", [ValueError("why"), Panic("why")]),
        asyncio.CancelledError,
        GeneratorExit,
        lambda: SystemExit(3),
        Panic,
        foreign_cancellation,
        Unprintable,
        deep_group,
    ],
    ids=["error", "group", "cancelled", "generator", "exit", "panic", "of another task", "no text", "deep"],
)
@pytest.mark.parametrize(
    "place", ["on_connect", "before the head", "after the head", "in mid-stream", "in finally"]
)
async def test_a_bystander_lives_on(
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    place: str,
    make_error: Callable[[], BaseException],
) -> None:
    server = make_server()
    server.websocket("/news")(news)
    ends = Ends(server)

    def visit(here: str) -> None:
        if here == place:
            raise make_error()

    @server.on_connect
    def connect(connection: Connection | WebSocketConnection) -> None:
        if connection.request.path == "/":
            visit("on_connect")

    @server.websocket("/")
    async def handler(websocket: WebSocketConnection) -> None:
        visit("before the head")
        try:
            await websocket.start()
            visit("after the head")
            await websocket.send_text("one")
            async for _ in websocket:
                visit("in mid-stream")
                break
        finally:
            visit("in finally")

    async with in_memory(server) as memory, opened(memory, "/news") as bystander:
        async with WebSocket(memory.connect()) as websocket:
            head = await websocket.client.get("/", *HANDSHAKE)
            if place in ("on_connect", "before the head"):
                assert head.status == 500
            else:
                await websocket.send(TEXT, b"go on")
                assert await websocket.close_code() == (1011, "handler_error")
        await server.hub.publish("news", "still here")
        while (frame := await bystander.frame()) is not None and b"still here" not in frame.payload:
            pass
        assert frame is not None
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
        assert ends.reasons == ([] if place == "on_connect" else [EndReason.HANDLER_ERROR])


async def test_a_scope_that_a_handler_leaves_open_ends_its_own_websocket_only(
    make_server: MakeServer,
) -> None:
    server = make_server()
    server.websocket("/news")(news)

    @server.websocket("/")
    async def handler(websocket: WebSocketConnection) -> None:
        await websocket.send_text("one")
        trio.CancelScope().__enter__()  # as an async generator does that is not closed

    async with in_memory(server) as memory, opened(memory, "/news") as bystander:
        async with opened(memory, "/") as websocket:
            assert await websocket.message() == "one"
            assert await websocket.close_code() == (1011, "handler_error")
        await server.hub.publish("news", "still here")
        while (frame := await bystander.frame()) is not None and b"still here" not in frame.payload:
            pass
        assert frame is not None
