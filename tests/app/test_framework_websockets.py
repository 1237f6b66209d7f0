"""The WebSockets of Starlette, FastAPI, Litestar and Quart-Trio apps, with trio-websocket as the client.

What the frameworks document and test of their own WebSockets, over real sockets.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio_websocket
from quart import ResponseReturnValue, abort, websocket
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketClose, WebSocketDisconnect

from trio_sse import Server
from trio_sse.quart import QuartSSE

from ..support.leaks import LeakCheck
from ..support.serving import OnSockets, on_sockets
from ..support.waiting import until
from ..support.websocket_client import HANDSHAKE

pytestmark = pytest.mark.usefixtures("protocol")

Connection = trio_websocket.WebSocketConnection


@dataclass
class Serving:
    """A server of an app on a socket."""

    server: Server
    sockets: OnSockets

    @asynccontextmanager
    async def connect(self, path: str, **options: Any) -> AsyncIterator[Connection]:
        """Open a WebSocket; close it at the end."""
        async with trio.open_nursery() as nursery:
            stream = await trio.open_tcp_stream(*self.sockets.address)
            try:
                connection = await trio_websocket.wrap_client_stream(
                    nursery, stream, "127.0.0.1", path, **options
                )
                yield connection
                await connection.aclose()
            finally:
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()

    async def refusal(self, path: str) -> tuple[int, bytes]:
        """Return the response to a handshake that is refused."""
        async with await self.sockets.connect() as client:
            head = await client.get(path, *HANDSHAKE)
            return head.status, await client.whole()

    async def is_idle(self) -> None:
        """Wait until no call of the app is left."""
        await until(lambda: self.server._admission.is_empty)


@asynccontextmanager
async def serving(check: LeakCheck, app: Any, **options: Any) -> AsyncIterator[Serving]:
    server = check.watch(Server(app, **options))
    async with on_sockets(server) as sockets:
        yield Serving(server, sockets)


async def end_of(connection: Connection) -> tuple[int, str]:
    """Wait for the close frame."""
    with pytest.raises(trio_websocket.ConnectionClosed) as caught:
        await connection.get_message()
    reason = caught.value.reason
    assert reason is not None
    return reason.code, reason.reason or ""


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    return [line.partition(" peer=")[0] for line in lines]


# Starlette


async def test_starlette_accepts_sends_and_receives(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[object] = []

    async def chat(ws: WebSocket) -> None:
        await ws.accept(subprotocol=ws.scope["subprotocols"][-1], headers=[(b"x-mine", b"yes")])
        await ws.send_json({"url": str(ws.url), "room": ws.path_params["room"], "a": ws.query_params["a"]})
        assert await ws.receive_text() == "text"
        assert await ws.receive_bytes() == b"bytes"
        assert await ws.receive_json() == ["json"]
        assert await ws.receive_json(mode="binary") == ["binary"]
        await ws.send_json("binary", mode="binary")
        async for text in ws.iter_text():
            await ws.send_text(text.upper())
        ends.append(ws.client_state.name)

    async def left(ws: WebSocket) -> None:
        """Leave to the server what Starlette raises when the client has left."""
        await ws.accept()
        try:
            await ws.receive_text()
        except WebSocketDisconnect as error:
            ends.append((error.code, error.reason))
            raise

    mounted = Mount("/v1", routes=[WebSocketRoute("/chat/{room:int}", chat)])
    app = Starlette(routes=[mounted, WebSocketRoute("/left", left)])
    async with serving(no_leak, app) as host:
        async with host.connect("/v1/chat/7?a=b", subprotocols=["one", "two"]) as connection:
            assert connection.subprotocol == "two"
            assert (b"x-mine", b"yes") in connection.handshake_headers
            first = json.loads(await connection.get_message())
            assert first == {"url": "ws://127.0.0.1/v1/chat/7?a=b", "room": 7, "a": "b"}
            for message in ("text", b"bytes", '["json"]', b'["binary"]'):
                await connection.send_message(message)
            assert await connection.get_message() == b'"binary"'
            for text in ("loud", "große"):
                await connection.send_message(text)
                assert await connection.get_message() == text.upper()
        async with host.connect("/left") as connection:
            await connection.aclose(code=3000, reason="bye")
        await host.is_idle()

    assert ends == ["DISCONNECTED", (3000, "bye")]
    assert errors(caplog) == []


async def test_starlette_refuses_and_denies(no_leak: LeakCheck, caplog: pytest.LogCaptureFixture) -> None:
    async def closes(ws: WebSocket) -> None:
        await ws.close()

    async def denies(ws: WebSocket) -> None:
        await ws.send_denial_response(JSONResponse({"denied": True}, 401, {"www-authenticate": "Bearer"}))

    async def streams(ws: WebSocket) -> None:
        async def body() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number

        await ws.send_denial_response(StreamingResponse(body(), 404))

    async def raises(ws: WebSocket) -> None:
        raise HTTPException(418, "short and stout")

    async def fails(ws: WebSocket) -> None:
        raise ValueError("a bug")

    routes = [WebSocketRoute(f"/{view.__name__}", view) for view in (closes, denies, streams, raises, fails)]
    routes.append(WebSocketRoute("/closed", WebSocketClose(4000)))
    async with serving(no_leak, Starlette(routes=routes)) as host:
        assert await host.refusal("/closes") == (403, b"")
        assert await host.refusal("/closed") == (403, b"")
        assert await host.refusal("/nowhere") == (403, b"")
        assert await host.refusal("/denies") == (401, b'{"denied":true}')
        assert await host.refusal("/streams") == (404, b"012")
        assert await host.refusal("/raises") == (418, b"short and stout")
        assert errors(caplog) == []
        assert (await host.refusal("/fails"))[0] == 500

    assert errors(caplog) == ["the app failed for path=/fails"]


async def test_starlette_closes_and_never_sends_after_the_end(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[object] = []

    async def closes(ws: WebSocket) -> None:
        await ws.accept()
        await ws.close(code=4001, reason="enough")
        with pytest.raises(RuntimeError):
            await ws.send_text("after it")

    async def fails(ws: WebSocket) -> None:
        await ws.accept()
        raise ValueError("a bug")

    async def keeps_sending(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text("tick")
                await trio.lowlevel.checkpoint()
        except WebSocketDisconnect as error:
            ends.append(error.code)
            raise

    class Echo(WebSocketEndpoint):
        encoding = "text"

        async def on_receive(self, ws: Any, data: Any) -> None:
            await ws.send_text(data)

        async def on_disconnect(self, ws: Any, close_code: int) -> None:
            ends.append(close_code)

    class Tagged:
        """Middleware that adds a field to every accept."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def tagged(message: Any) -> None:
                if message["type"] == "websocket.accept":
                    message["headers"] = [*message.get("headers", ()), (b"x-tag", b"1")]
                await send(message)

            await self.app(scope, receive, tagged)

    routes = [WebSocketRoute(f"/{view.__name__}", view) for view in (closes, fails, keeps_sending)]
    routes.append(WebSocketRoute("/echo", Echo))
    app = Starlette(routes=routes, middleware=[Middleware(Tagged)])
    async with serving(no_leak, app) as host:
        async with host.connect("/closes") as connection:
            assert (b"x-tag", b"1") in connection.handshake_headers
            assert await end_of(connection) == (4001, "enough")
        async with host.connect("/keeps_sending") as connection:
            assert await connection.get_message() == "tick"
        async with host.connect("/echo") as connection:
            await connection.send_message("one")
            assert await connection.get_message() == "one"
            await connection.send_message(b"of a kind that the endpoint refuses")
            assert (await end_of(connection))[0] == 1003
        await host.is_idle()
        assert sorted(map(str, ends)) == ["1006", "1011"]
        assert errors(caplog) == ["the app failed for path=/echo"]
        async with host.connect("/fails") as connection:
            assert await end_of(connection) == (1011, "handler_error")

    assert errors(caplog)[1:] == ["the app failed for path=/fails"]


# FastAPI


@pytest.mark.slow
async def test_fastapi_depends_validates_and_refuses(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    from ..support.apps.fastapi_websockets import app, released  # slow to import

    released.clear()
    async with serving(no_leak, app) as host:
        async with host.connect("/items/3?token=eve") as connection:
            await connection.send_message("hello")
            assert await connection.get_message() == "eve 3 hello"
        assert (await host.refusal("/items/3"))[0] == 403
        assert (await host.refusal("/items/three?token=eve"))[0] == 403
        status, body = await host.refusal("/items/3?token=wrong")
        assert (status, json.loads(body)) == (401, {"detail": "wrong token"})
        async with host.connect("/late") as connection:
            assert await end_of(connection) == (1008, "after all")
        await host.is_idle()

    assert "eve" in released
    assert errors(caplog) == []


# Litestar


@pytest.mark.slow
async def test_litestar_handlers_and_listeners(no_leak: LeakCheck, caplog: pytest.LogCaptureFixture) -> None:
    from ..support.apps.litestar_websockets import app  # slow to import

    async with serving(no_leak, app) as host:
        async with host.connect("/chat/5", subprotocols=["chat"]) as connection:
            assert connection.subprotocol == "chat"
            await connection.send_message("hello")
            assert json.loads(await connection.get_message()) == {"said": "hello", "room": 5}
        async with host.connect("/add") as connection:
            await connection.send_message("[1, 2, 3]")
            assert json.loads(await connection.get_message()) == {"sum": 6}
        async with host.connect("/closes") as connection:
            assert await end_of(connection) == (4000, "enough")
        assert (await host.refusal("/private"))[0] == 403
        assert (await host.refusal("/nowhere"))[0] == 403
        await host.is_idle()

    assert errors(caplog) == []


# Quart


async def test_quart_accepts_sends_and_receives(no_leak: LeakCheck, caplog: pytest.LogCaptureFixture) -> None:
    app = QuartTrio(__name__)
    ends: list[str] = []

    @app.websocket("/chat/<int:room>")
    async def chat(room: int) -> None:
        await websocket.accept(headers={"x-room": str(room)}, subprotocol=websocket.requested_subprotocols[0])
        await websocket.send_json({"url": websocket.url, "a": websocket.args["a"]})
        try:
            while True:
                message = await websocket.receive()
                await websocket.send(message)
        except Exception as error:  # of Quart 0.23; earlier ones only cancel the handler
            assert type(error).__name__ == "ClientDisconnectedError"  # noqa: PT017
        finally:
            ends.append("cancelled")

    @app.websocket("/implicit")
    async def implicit() -> None:
        await websocket.send(f"got {await websocket.receive()!r}")

    @app.websocket("/closes")
    async def closes() -> None:
        await websocket.accept()
        await websocket.close(4001, "enough")

    async with serving(no_leak, app) as host:
        async with host.connect("/chat/3?a=b", subprotocols=["one", "two"]) as connection:
            assert connection.subprotocol == "one"
            assert (b"x-room", b"3") in connection.handshake_headers
            first = json.loads(await connection.get_message())
            assert first == {"url": "ws://127.0.0.1/chat/3?a=b", "a": "b"}
            for message in ("große", b"\xff" * 70_000):
                await connection.send_message(message)
                assert await connection.get_message() == message
        await host.is_idle()
        assert ends == ["cancelled"]
        async with host.connect("/implicit") as connection:
            await connection.send_message("this")
            assert await connection.get_message() == "got 'this'"
            assert await end_of(connection) == (1000, "")
        async with host.connect("/closes") as connection:
            assert await end_of(connection) == (4001, "enough")

    assert errors(caplog) == []


async def test_quart_refuses_and_denies(no_leak: LeakCheck, caplog: pytest.LogCaptureFixture) -> None:
    app = QuartTrio(__name__)

    @app.websocket("/abort")
    async def aborts() -> None:
        abort(401)

    @app.websocket("/answer")
    async def answers() -> ResponseReturnValue:
        return {"denied": True}, 402, {"x-why": "because"}

    @app.websocket("/fail")
    async def fails() -> None:
        raise ValueError("a bug")

    @app.before_websocket
    async def check() -> ResponseReturnValue | None:
        return ("no entry", 423) if "closed" in websocket.args else None

    async with serving(no_leak, app) as host:
        assert (await host.refusal("/abort"))[0] == 401
        status, body = await host.refusal("/answer")
        assert (status, json.loads(body)) == (402, {"denied": True})
        assert await host.refusal("/answer?closed=1") == (423, b"no entry")
        assert (await host.refusal("/nowhere"))[0] == 404
        assert errors(caplog) == []
        assert (await host.refusal("/fail"))[0] == 500

    assert len(errors(caplog)) == 1  # Quart's own


async def test_quart_serves_topics_on_its_own_websockets(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    app = QuartTrio(__name__)
    sse = QuartSSE(app)
    no_leak.watch_hub(sse.hub)

    @app.websocket("/topics")
    async def topics() -> None:
        await sse.serve_topics(topics=["news"], publish=["news"])

    async with serving(no_leak, app) as host, host.connect("/topics") as connection:
        await connection.send_message('{"type":"subscribe","topics":["news"]}')
        assert json.loads(await connection.get_message())["type"] == "topics"
        await sse.hub.publish("news", "first")
        assert json.loads(await connection.get_message())["data"] == "first"
        await connection.send_message('{"type":"publish","topic":"news","data":"second"}')
        assert json.loads(await connection.get_message())["data"] == "second"
        host.sockets.nursery.start_soon(host.server.drain)
        assert (await end_of(connection))[0] == 1001

    assert errors(caplog) == []


async def test_a_close_behind_messages_that_quart_answers_is_no_error(
    no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    app = QuartTrio(__name__)

    @app.websocket("/echo")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())

    async with serving(no_leak, app) as site:
        for _ in range(5):
            async with site.connect("/echo") as connection:
                for number in range(5):
                    await connection.send_message(f"{number}")
        await site.is_idle()
    # From 0.23 on, Quart itself may raise this in `receive`, and logs it, on every server.
    assert not [
        record
        for record in caplog.records
        if record.levelno >= logging.ERROR
        and not (record.exc_info and "ClientDisconnectedError" in str(record.exc_info[0]))
    ]
