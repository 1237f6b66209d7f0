"""What an app's own responses do when `trio_sse.hypercorn` drains: see also `tests/app/test_drain.py`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from quart import Response
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._asgi.outermost_app import OpenWork, OutermostApp
from trio_sse._asgi.websocket_guard import Handshakes

from ..support.client import Client
from ..support.http2_client import Http2Connection, Http2Stream
from ..support.waiting import SECONDS
from .test_apps_on_hypercorn import serving_app
from .test_hypercorn import plain_connect

DRAIN_SECONDS = 10.0

EVENTS = b"text/event-stream"
TYPES = {"/lines": b"application/jsonl"}
NOT_RESUMABLE = (("GET", "/lines", 1), ("POST", "/events", 1))


async def endless() -> AsyncIterator[bytes]:
    yield b"data: hello\n\n"
    await trio.sleep_forever()


def make_starlette() -> Any:
    async def live(request: Any) -> StreamingResponse:
        return StreamingResponse(endless(), media_type="text/event-stream")

    return Starlette(routes=[Route("/", live)])


def make_quart() -> Any:
    app = QuartTrio(__name__)

    @app.get("/")
    async def live() -> Response:
        response = Response(endless(), mimetype="text/event-stream")
        response.timeout = None
        return response

    return app


async def plain(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Say good-bye when the client has left, or seems to have."""
    assert scope["type"] == "http", "no lifespan here"
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.body", "body": b"data: bye\n\n"})


async def leaving(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Be such an app that fails when it learns of a disconnect, as Starlette's do that read a body."""

    async def send_but_last(message: Any) -> None:
        if b"bye" in message.get("body", b""):
            raise ClientDisconnect
        await send(message)

    await plain(scope, receive, send_but_last)


@pytest.mark.parametrize(
    ("make_app", "last"),
    [(make_starlette, []), (make_quart, []), (lambda: plain, ["bye"]), (lambda: leaving, [])],
)
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_endless_responses_of_an_app_end(
    make_app: Callable[[], Any], last: list[str], version: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutdown = trio.Event()
    options: dict[str, Any] = {"shutdown_trigger": shutdown.wait, "drain_timeout": 10 * SECONDS}
    async with trio.open_nursery() as nursery, serving_app(make_app(), **options) as where:
        stream = await plain_connect(where)
        reader: Client | Http2Stream
        if version == "2":
            connection = await Http2Connection.open(stream, None, nursery)
            reader = await connection.request("GET", "/")
        else:
            reader = Client(stream)
            await reader.get("/")
        assert (await reader.event()).data == "hello"
        shutdown.set()
        assert [event.data for event in await reader.rest()] == last
        # What the app has not ended is cut, which a stream of HTTP/2 cannot be there: see `docs/hosts.md`.
        assert reader.is_ended == (version == "2" or last != [])
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_responses_learn_of_a_drain_one_after_the_other_or_late(autojump_clock: MockClock) -> None:
    begin = trio.Event()
    ended_at: dict[str, list[float]] = {}

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            await begin.wait()
        headers = [(b"content-type", TYPES.get(scope["path"], EVENTS))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        assert (await receive())["type"] == "http.request"
        for _ in range(2):  # it stays so
            assert (await receive())["type"] == "http.disconnect"
        ended_at.setdefault(f"{scope['method']} {scope['path']}", []).append(trio.current_time())
        await send({"type": "http.response.body", "body": b""})

    async def ask(method: str, path: str) -> None:
        to_app, receiving = trio.open_memory_channel[Any](10)
        to_app.send_nowait({"type": "http.request", "body": b"", "more_body": False})
        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path}
        await outermost(scope, receiving.receive, ignore)
        to_app.close()

    async with trio.open_nursery() as nursery:
        open_work = OpenWork()
        open_work.nursery = nursery
        life = SimpleNamespace(is_up=True, state={})
        outermost = OutermostApp(app, life, open_work, Handshakes(), write_timeout=1)
        for method, path, count in (("GET", "/events", 50), ("GET", "/late", 1), *NOT_RESUMABLE):
            for _ in range(count):
                nursery.start_soon(ask, method, path)
        await wait_all_tasks_blocked()
        await open_work.drain(DRAIN_SECONDS)
        assert len(set(ended_at.pop("GET /events"))) == 5  # so that they do not reconnect together
        begin.set()
    assert ended_at.pop("GET /late") == [pytest.approx(1)]
    assert list(ended_at.values()) == [[pytest.approx(0.8 * DRAIN_SECONDS)]] * len(NOT_RESUMABLE)


async def ignore(message: Any) -> None:
    """Send nothing."""
    await trio.lowlevel.checkpoint()
