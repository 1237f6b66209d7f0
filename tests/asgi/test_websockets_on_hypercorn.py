"""How WebSockets of an app end on hypercorn: one of them ends nothing else, and all tasks learn of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio

from ..support.client import Client
from ..support.waiting import SECONDS
from ..support.websocket_client import CLOSE, PING, TEXT, WebSocket, encode, encode_close
from .test_apps_on_hypercorn import serving_app
from .test_hypercorn import plain_connect


async def open_websocket(where: str) -> WebSocket:
    websocket = WebSocket(Client(await plain_connect(where)))
    assert (await websocket.open("/")).status == 101
    return websocket


@pytest.mark.parametrize("end", ["close", "return", "raise"])
@pytest.mark.parametrize("last", [encode(PING, b"p"), encode_close(1000)], ids=["ping", "close frame"])
async def test_what_a_client_sends_as_the_app_ends_its_websocket_ends_nothing_else(
    end: str, last: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "bye"})
        if end == "close":
            await send({"type": "websocket.close", "code": 4000})
        if end == "raise":
            raise ValueError("the app fails")

    async def visit(where: str) -> None:
        async with await open_websocket(where) as websocket:
            await websocket.client.send(encode(TEXT, b"a message") + last)
            with suppress(OSError, trio.BrokenResourceError):  # it may close at once
                while (frame := await websocket.frame()) is not None:
                    if frame.opcode == CLOSE:
                        await websocket.client.send(encode_close(1000))

    async with serving_app(app) as where:
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(visit, where)
    assert "is started again" not in caplog.text


async def test_all_tasks_learn_that_the_client_has_disconnected_as_often_as_they_ask() -> None:
    codes: list[int] = []
    has_ended = trio.Event()

    async def wait(receive: Any) -> None:
        for _ in range(2):
            message = await receive()
            assert message["type"] == "websocket.disconnect"
            codes.append(message["code"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait, receive)
        with pytest.raises(OSError, match="has disconnected"):
            await send({"type": "websocket.send", "text": "too late"})
        has_ended.set()

    async with serving_app(app) as where, await open_websocket(where) as websocket:
        await websocket.client.send(encode_close(1000))
        with trio.fail_after(SECONDS):
            await has_ended.wait()
    assert codes == [codes[0]] * 6


async def test_a_call_that_ends_waits_a_short_time_for_a_client_that_does_not_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})

    async with serving_app(app) as where, await open_websocket(where) as websocket:
        assert await websocket.close_code() == (1011, "")
