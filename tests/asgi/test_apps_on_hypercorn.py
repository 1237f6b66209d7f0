"""What apps and their clients do on hypercorn, and must not do to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypercorn.middleware import ProxyFixMiddleware
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Route

import trio_sse.hypercorn
from trio_sse import Connection, EndReason, Hub
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE

from ..support.client import Client, abort
from ..support.hypercorn_config import make_config
from ..support.leaks import LeakCheck, open_descriptors
from ..support.waiting import SECONDS, until
from .test_hypercorn import check_stream, connect, plain_connect

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@asynccontextmanager
async def serving_app(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve any app; give its address."""
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            (where,) = await nursery.start(partial(trio_sse.hypercorn.serve, app, make_config(), **options))
            yield where
            nursery.cancel_scope.cancel()


def make_quart(no_leak: LeakCheck) -> tuple[QuartTrio, QuartSSE]:
    app = QuartTrio(__name__)
    sse = QuartSSE(app)
    no_leak.watch_hub(sse.hub)

    @sse.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    return app, sse


async def test_a_drain_finds_streams_whose_scope_was_copied(no_leak: LeakCheck) -> None:
    app, sse = make_quart(no_leak)
    app.asgi_app = ProxyFixMiddleware(app.asgi_app, mode="legacy")  # type: ignore[method-assign]
    shutdown = trio.Event()
    options: dict[str, Any] = {"shutdown_trigger": shutdown.wait, "drain_timeout": 20}
    async with serving_app(app, **options) as where, Client(await connect(where)) as client:
        await client.get("/live")
        await client.read()  # the cursor
        began_at = trio.current_time()
        shutdown.set()
        await client.rest()
        assert (client.is_cut, client.retry is not None) == (True, True)
        assert trio.current_time() - began_at < 15
    assert sse.statistics().ended == {EndReason.SERVER_SHUTDOWN: 1}


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


async def fails(connection: Connection) -> None:
    await connection.send("one")
    raise ValueError("secret")


async def test_below_middleware_a_stream_that_fails_is_cut(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    hub = no_leak.watch_hub(Hub())
    app = Starlette(routes=[Route("/", event_stream(fails, hub=hub))], middleware=[Middleware(Passing)])
    async with serving_app(app) as where, Client(await connect(where)) as client:
        await client.get("/")
        assert [event.data for event in await client.rest()] == ["one"]
        assert (client.is_ended, client.is_cut) == (False, True)


@pytest.mark.integration
async def test_a_handler_that_ends_before_the_slow_view_has_answered_is_cut_and_logged(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    app, sse = make_quart(no_leak)

    @sse.route("/impatient")
    async def impatient(connection: Connection) -> None:
        with trio.fail_after(0.05):
            await connection.send("never")

    @app.after_request
    async def save_session(response: Any) -> Any:
        await trio.sleep(0.2)
        return response

    async with serving_app(app) as where:
        for _ in range(3):
            async with Client(await connect(where)) as client:
                await client.get("/impatient")
                assert await client.rest() == []
                assert client.is_cut
        await check_stream(sse, await connect(where))
    assert caplog.text.count("handler failed for id=") == 3


@pytest.mark.slow
async def test_clients_that_leave_amid_an_upload_end_nothing_else(no_leak: LeakCheck) -> None:
    app, sse = make_quart(no_leak)

    @sse.route("/nothing", methods=["POST"])
    async def nothing(connection: Connection) -> None:
        pass

    async with serving_app(app) as where, Client(await connect(where)) as bystander:
        await bystander.get("/live")
        for _ in range(60):
            async with await plain_connect(where) as stream:
                await stream.send_all(
                    b"POST /nothing HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
                )
                await stream.send_eof()
        await sse.hub.publish("live", "still there")
        assert (await bystander.event()).data == "still there"


@pytest.mark.parametrize("has_begun", [True, False])
async def test_an_app_that_sends_and_does_not_receive_is_not_kept_by_an_upload(
    no_leak: LeakCheck, has_begun: bool
) -> None:
    left, learned = trio.Event(), trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        part = {"type": "http.response.body", "body": bytes(100_000), "more_body": True}
        messages = [{"type": "http.response.start", "status": 200, "headers": []}, part]
        try:
            if has_begun:
                await send(messages.pop(0))
            await left.wait()
            for message in messages:
                await send(message)
            while True:
                await send(part)
        except OSError:
            while (await receive())["type"] != "http.disconnect":
                pass
            learned.set()
            raise

    async with serving_app(app, write_timeout=0.5) as where:
        before = open_descriptors().keys()
        async with await plain_connect(where) as stream:
            head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
            await stream.send_all(head + 50 * b"1\r\nx\r\n")
            if has_begun:
                await stream.receive_some()
            await abort(stream)
        left.set()
        await learned.wait()
        await until(lambda: open_descriptors().keys() == before)


async def test_a_client_that_ends_its_side_receives_what_the_handler_sends_next() -> None:
    hub = Hub()

    async def answer(connection: Connection) -> None:
        await connection.send("here")

    app = Starlette(routes=[Route("/", event_stream(answer, hub=hub, methods=["POST"]))])
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        async with serving_app(app) as where:
            for steps in range(30):
                async with await plain_connect(where) as stream:
                    await stream.send_all(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx")
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    await stream.send_eof()
                    received = b""
                    while data := await stream.receive_some():
                        received += data
                    assert b"data: here" in received
        nursery.cancel_scope.cancel()


async def test_an_app_that_raises_what_is_no_exception_ends_nothing_else(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    app, sse = make_quart(no_leak)

    async def panicking(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/panic":
            raise GeneratorExit
        await app(scope, receive, send)

    async with serving_app(panicking) as where, Client(await connect(where)) as bystander:
        await bystander.get("/live")
        async with Client(await connect(where)) as client:
            assert (await client.get("/panic")).status == 500
        await sse.hub.publish("live", "still there")
        assert (await bystander.event()).data == "still there"
    assert "hypercorn failed" not in caplog.text


async def test_an_app_that_needs_asyncio_is_told_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "no lifespan here"
        await asyncio.sleep(0)

    caplog.set_level("ERROR", "trio_sse.app")
    async with serving_app(app) as where:
        for _ in range(2):
            async with Client(await connect(where)) as client:
                assert (await client.get("/")).status == 500
    assert ["needs asyncio" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize(
    "accept",
    [
        {"subprotocol": "not-offered"},
        {"subprotocol": 7},
        {"headers": [(b"Sec-WebSocket-Protocol", b"x")]},
        {"headers": [(b":status", b"101")]},
        {"headers": [("name", "value")]},
        {"headers": [(b"name", b"a\r\nb: c")]},
    ],
)
async def test_a_websocket_that_hypercorn_cannot_accept_ends_nothing_else(accept: dict[str, Any]) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept", **accept})
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await ended.wait()
            await send({"type": "http.response.body", "body": b"ended"})

    ended = trio.Event()
    async with serving_app(app) as where, Client(await connect(where)) as bystander:
        await bystander.get("/")
        assert await bystander.read() == b"begun"
        async with Client(await connect(where)) as client:
            await client.send(HANDSHAKE)
            assert (await client.head()).status == 500
        ended.set()
        assert await bystander.whole() == b"begunended"


async def test_a_websocket_is_accepted_with_what_its_client_has_offered() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            fields = [(b"x-mine", b" yes "), (b"connection", b"close")]
            await send(
                {"type": "websocket.accept", "subprotocol": scope["subprotocols"][0], "headers": fields}
            )

    async with serving_app(app) as where, Client(await connect(where)) as client:
        await client.send(HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: chat, other\r\n\r\n")
        head = await client.head()
        assert (head.status, head.get("Sec-WebSocket-Protocol"), head.get("x-mine")) == (101, "chat", "yes")


FRAME = b"\x81\x80\0\0\0\0"


@pytest.mark.parametrize(
    "answer",
    [
        [],
        [{"type": "websocket.accept"}],
        [{"type": "websocket.close"}],
        [
            {"type": "websocket.http.response.start", "status": 403, "headers": []},
            {"type": "websocket.http.response.body", "body": b"no"},
        ],
    ],
)
async def test_a_client_that_sends_with_its_handshake_ends_nothing_else(
    answer: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Hypercorn answers 400, and would end if the app answered, too."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            for message in answer:
                await send(message)

    async with serving_app(app) as where:
        for _ in range(3):
            async with Client(await connect(where)) as client:
                await client.send(HANDSHAKE + FRAME)
                assert (await client.head()).status == 400
    assert "hypercorn failed" not in caplog.text


async def test_an_app_learns_of_a_client_that_sends_before_its_websocket_was_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Hypercorn has answered 400 then, and tells the app nothing more."""
    begun, answered, ended = trio.Event(), trio.Event(), trio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            assert (await receive())["type"] == "websocket.connect"
            begun.set()
            assert await receive() == {"type": "websocket.disconnect", "code": 1006}
            await answered.wait()
            ended.set()
            await send({"type": "websocket.accept"})

    async with serving_app(app) as where, Client(await connect(where)) as client:
        await client.send(HANDSHAKE)
        await begun.wait()
        await client.send(FRAME)
        assert (await client.head()).status == 400
        answered.set()
        await ended.wait()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
