"""What becomes of an app's call whose client leaves within the response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from ..support.asgi_apps import Receive, Send, http_only
from ..support.leaks import MakeServer
from ..support.serving import on_sockets
from ..support.waiting import until


async def test_starlettes_background_work_is_done_after_a_stream_whose_client_has_left(
    make_server: MakeServer, protocol: str
) -> None:
    done: list[str] = []

    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await trio.sleep_forever()
        finally:
            done.append("the stream")

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        done.append("the work")

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(parts(), background=BackgroundTask(work))

    server = make_server(app=Starlette(routes=[Route("/", stream)]))
    async with on_sockets(server) as serving:
        async with await serving.connect() as client:
            await client.get("/")
            assert await client.read() == b"one"
        await until(lambda: done == ["the stream", "the work"])


async def test_an_app_that_would_not_learn_of_the_disconnect_is_cancelled(
    make_server: MakeServer, protocol: str
) -> None:
    cancelled = trio.Event()

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.set()
            raise

    async with on_sockets(make_server(app=app)) as serving:
        async with await serving.connect() as client:
            await client.get("/")
            assert await client.read() == b"one"
        await cancelled.wait()


async def test_only_what_is_lost_by_the_disconnect_is_an_error(
    make_server: MakeServer, protocol: str
) -> None:
    """An app whose last part has just been sent has not failed, though it has not said so."""
    is_ended = trio.Event()

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        for goes_on in (True, False):
            with pytest.raises(OSError, match="the client has disconnected"):
                await send({"type": "http.response.body", "body": b"two", "more_body": goes_on})
        await send({"type": "http.response.body"})
        is_ended.set()

    async with on_sockets(make_server(app=app)) as serving:
        async with await serving.connect() as client:
            await client.get("/")
            assert await client.read() == b"one"
        await is_ended.wait()
