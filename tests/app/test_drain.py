"""What an app's responses do when the server drains: endless ones end, and short ones finish."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from starlette.requests import ClientDisconnect
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Server

from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.client import Client
from ..support.leaks import MakeServer
from ..support.serving import in_memory

pytestmark = pytest.mark.usefixtures("protocol")

DRAIN_SECONDS = 10.0


class Streaming:
    """An app that streams until it learns of a disconnect, and notes when that was."""

    def __init__(
        self, content_type: bytes = b"text/event-stream", last: bytes | None = b"data: bye\n\n"
    ) -> None:
        self.content_type = content_type
        self.last = last
        self.ended_at: list[float] = []
        self.begin = trio.Event()
        self.begin.set()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "no lifespan here"
        await self.begin.wait()
        headers = [(b"content-type", self.content_type)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.ended_at.append(trio.current_time())
        if self.last is not None:
            await send({"type": "http.response.body", "body": self.last})


@asynccontextmanager
async def draining(
    make_server: MakeServer, app: Any, count: int = 1, method: str = "GET", accept: str = "*/*"
) -> AsyncIterator[list[Client]]:
    """Open connections whose requests the app is answering, then drain the server.

    A slow machine is not reported: some tests look for anything in the log.
    """
    server: Server = make_server(app=app, drain_timeout=DRAIN_SECONDS, slow_step=math.inf)
    async with in_memory(server) as serving:
        clients = [serving.connect() for _ in range(count)]
        for client in clients:
            fields = f"Host: test\r\nAccept: {accept}\r\nContent-Length: 0"
            await client.send(f"{method} / HTTP/1.1\r\n{fields}\r\n\r\n".encode())
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            await wait_all_tasks_blocked()
            yield clients


@pytest.mark.slow
async def test_an_apps_event_streams_end_one_after_the_other(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    app = Streaming()
    async with draining(make_server, app, count=50) as clients:
        for client in clients:
            assert (await client.head()).status == 200
            assert await client.whole() == b"data: hello\n\ndata: bye\n\n"
    assert len(app.ended_at) == 50
    assert len(set(app.ended_at)) == 5  # so that they do not reconnect together
    assert trio.current_time() < 1


@pytest.mark.parametrize(
    ("content_type", "method"), [(b"application/jsonl", "GET"), (b"text/event-stream", "POST")]
)
async def test_responses_that_clients_cannot_resume_may_go_on_for_a_while(
    make_server: MakeServer, autojump_clock: MockClock, content_type: bytes, method: str
) -> None:
    app = Streaming(content_type)
    async with draining(make_server, app, method=method) as (client,):
        await client.head()
        assert await client.whole() == b"data: hello\n\ndata: bye\n\n"
    assert app.ended_at == [pytest.approx(0.8 * DRAIN_SECONDS, abs=0.1)]


@pytest.mark.http1_only
async def test_a_short_response_finishes(make_server: MakeServer, autojump_clock: MockClock) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await trio.sleep(3)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b".", "more_body": True})
            await trio.sleep(1)
        await send({"type": "http.response.body", "body": b"!"})

    async with draining(make_server, app) as (client,):
        head = await client.head()
        assert (head.status, head.get("connection")) == (200, "close")
        assert await client.whole() == b"...!"
    assert trio.current_time() == pytest.approx(6, abs=0.1)


async def test_an_event_stream_that_begins_in_a_drain_ends_soon(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    app = Streaming()
    app.begin = trio.Event()
    async with draining(make_server, app) as (client,):
        app.begin.set()
        await client.head()
        assert await client.whole() == b"data: hello\n\ndata: bye\n\n"
    assert app.ended_at == [pytest.approx(1, abs=0.1)]  # what is short is sent by then


async def test_a_stream_that_an_app_drops_in_a_drain_is_cut_without_an_error(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "trio_sse")
    async with draining(make_server, Streaming(last=None)) as (client,):
        await client.head()
        assert [event.data for event in await client.rest()] == ["hello"]
        assert client.is_cut
        assert not client.is_ended
    assert caplog.records == []


async def test_what_an_app_raises_since_a_drain_ends_its_upload_is_no_error(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b".", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ClientDisconnect

    caplog.set_level(logging.WARNING, "trio_sse")
    async with draining(make_server, app) as (client,):
        await client.head()
        await client.whole()
        assert client.is_cut
    assert caplog.records == []


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
async def test_an_event_stream_that_waits_for_its_first_event_ends_at_once(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while (await receive())["type"] != "http.disconnect":
            pass

    caplog.set_level(logging.WARNING, "trio_sse")
    async with draining(make_server, app, accept=accept) as (client,):
        head = await client.head()
        if accept == "*/*":
            assert head.status == 503
        else:  # `EventSource` would give up after a 503
            assert head.status == 200
            assert (await client.whole()).startswith(b"retry: ")
        assert trio.current_time() < 1
    assert caplog.records == []


async def test_an_app_that_ignores_the_drain_is_cancelled_at_its_end(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b".", "more_body": True})
        await trio.sleep_forever()

    async with draining(make_server, app) as (client,):
        await client.head()
        await client.rest()
        assert client.is_cut
    assert trio.current_time() == pytest.approx(DRAIN_SECONDS, abs=0.1)


@pytest.mark.parametrize(("body", "goes_on"), [(b"too long", True), (b"too long", False), (b"s", False)])
@pytest.mark.http1_only
async def test_a_first_body_of_another_length_than_announced_is_a_500(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, body: bytes, goes_on: bool
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": body, "more_body": goes_on})
        await answer(send)

    async with in_memory(make_server(app=app)) as serving, serving.connect() as client:
        head = await client.get("/")
        assert (head.status, head.get("connection")) == (500, "close")
    assert any(record.name == "trio_sse.app" for record in caplog.records)
