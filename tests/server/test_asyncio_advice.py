"""An app that needs asyncio gets one sentence that says so, once, and so does ours where there is no Trio."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from trio_sse import Connection, Hub
from trio_sse.asgi import event_stream

from ..support.asgi_apps import GET, Receive, Send, http_only
from ..support.leaks import MakeServer
from ..support.serving import in_memory


async def find_loop() -> None:
    asyncio.get_running_loop()


async def sleep() -> None:
    await asyncio.sleep(0)


async def wait_in_line() -> None:
    """Locks, events and queues of asyncio look for the event loop only where they have to wait."""
    await asyncio.Queue[None]().get()


async def fail_in_a_group() -> None:
    try:
        await find_loop()
    except RuntimeError as error:
        wrapped = LookupError("what it makes of it")
        wrapped.__cause__ = error
        raise ExceptionGroup("of a framework", [wrapped]) from None


async def fail_otherwise() -> None:
    raise RuntimeError("no database")


@pytest.mark.parametrize(
    ("work", "is_advised"),
    [
        (find_loop, True),
        (sleep, True),
        (wait_in_line, True),
        (fail_in_a_group, True),
        (fail_otherwise, False),
    ],
)
async def test_an_app_that_needs_asyncio_is_advised_once(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, work: Any, is_advised: bool
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await work()

    caplog.set_level(logging.ERROR, "trio_sse.app")
    async with in_memory(make_server(app=app)) as serving:
        for _ in range(2):
            async with serving.connect() as client:
                await client.send(GET)
                assert (await client.head()).status == 500
    advised = ["needs asyncio" in record.message for record in caplog.records]
    assert advised == ([True, False, False] if is_advised else [False, False])


async def test_an_app_whose_websockets_need_asyncio_is_advised_once(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket", "no lifespan here"
        await wait_in_line()

    caplog.set_level(logging.ERROR, "trio_sse.app")
    fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    fields += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    async with in_memory(make_server(app=app)) as serving:
        for _ in range(2):
            async with serving.connect() as client:
                await client.send(f"GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
                assert (await client.head()).status == 500
    advised = ["needs asyncio" in record.message for record in caplog.records]
    assert advised == [True, False, False]


async def test_an_app_whose_start_needs_asyncio_is_advised(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        try:
            await find_loop()
        except RuntimeError as error:
            message = f"Traceback (most recent call last):\n  File ...\nRuntimeError: {error}\n"
            await send({"type": "lifespan.startup.failed", "message": message})
            raise

    caplog.set_level(logging.ERROR, "trio_sse.app")
    server = make_server(app=app)
    with pytest.raises(RuntimeError, match=r"^the app could not start: RuntimeError: no running event loop$"):
        await server.serve("127.0.0.1", 0)
    advised, failed = caplog.records
    assert "needs asyncio" in advised.message
    assert failed.message == "the app could not start"
    assert failed.exc_info is not None


def test_an_event_stream_without_trio_says_what_it_needs() -> None:
    async def handler(connection: Connection) -> None: ...

    async def unused(*arguments: Any) -> Any:
        raise AssertionError

    endpoint = event_stream(handler, hub=Hub())
    with pytest.raises(RuntimeError, match="needs Trio"):
        asyncio.run(endpoint({"type": "http"}, unused, unused))
