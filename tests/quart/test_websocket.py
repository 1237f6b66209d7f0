"""The subprotocol on Quart's WebSockets, on our server and hypercorn, with trio-websocket as the client."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import hypercorn.trio
import pytest
import trio
import trio.lowlevel
import trio.testing
import trio_websocket
from hypercorn.config import Config
from quart_trio import QuartTrio

import trio_sse.hypercorn
from trio_sse import Hub, Server
from trio_sse.quart import QuartSSE

from ..support.client import Client
from ..support.hypercorn_config import make_config
from ..support.leaks import LeakCheck
from ..support.waiting import SECONDS, until
from ..support.websocket_client import HANDSHAKE

Serve = Callable[..., Any]


@dataclass
class App:
    """An app that is served."""

    hub: Hub
    port: int
    shut_down: trio.Event
    has_ended: trio.Event
    sse: QuartSSE


class Peer:
    """A client of the subprotocol."""

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self.connection = connection

    async def ask(self, **frame: object) -> dict[str, Any]:
        await self.connection.send_message(json.dumps(frame))
        return await self.frame()

    async def frame(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.connection.get_message())
        return found

    async def closed(self) -> tuple[int, str | None]:
        """Wait until it is closed; return the code and the reason."""
        try:
            while True:
                await self.connection.get_message()
        except trio_websocket.ConnectionClosed as closed:
            reason = closed.reason
        assert reason is not None
        return int(reason.code), reason.reason


def may_subscribe(topic: str) -> bool:
    if topic == "broken":
        raise RuntimeError("broken")
    return topic != "secret"


async def serve_by_server(
    app: QuartTrio,
    config: Config,
    *,
    shutdown_trigger: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]],
) -> None:
    """Serve on our server, with the arguments of hypercorn."""
    server = Server(app, hub=app.extensions["trio_sse"].hub, drain_timeout=2)
    async with trio.open_nursery() as nursery:
        ((_, port),) = await nursery.start(server.serve, "127.0.0.1", 0)
        task_status.started([f"http://127.0.0.1:{port}"])
        await shutdown_trigger()
        await server.drain()


HOSTS: dict[str, Serve] = {
    "server": serve_by_server,
    "our-hypercorn": trio_sse.hypercorn.serve,
    "hypercorn-alone": hypercorn.trio.serve,
}


@pytest.fixture(params=list(HOSTS.values()), ids=list(HOSTS))
def run(request: pytest.FixtureRequest, no_leak: LeakCheck) -> Callable[..., Any]:
    return partial(running, request.param, no_leak)


@asynccontextmanager
async def running(
    serve: Serve,
    no_leak: LeakCheck,
    *,
    before_accept: Callable[[], Awaitable[None]] | None = None,
    **options: Any,
) -> AsyncIterator[App]:
    hub = no_leak.watch_hub(Hub(queue=50))
    app = QuartTrio(__name__)
    sse = QuartSSE(app, hub=hub, drain_timeout=2)

    @app.websocket("/ws")
    async def ws() -> None:
        await sse.serve_topics(topics=may_subscribe, publish=["public"], **options)

    call = app.asgi_app

    async def call_with_hook(scope: Any, receive: Any, send: Any) -> None:
        async def send_later(message: Any) -> None:
            if message["type"] == "websocket.accept" and before_accept is not None:
                await before_accept()
            await send(message)

        await call(scope, receive, send_later)

    app.asgi_app = call_with_hook  # type: ignore[method-assign]
    config = make_config(graceful_timeout=2)
    shut_down, ended = trio.Event(), trio.Event()
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:

            async def serve_to_the_end(*, task_status: trio.TaskStatus[list[str]]) -> None:
                await serve(app, config, shutdown_trigger=shut_down.wait, task_status=task_status)
                ended.set()

            (url,) = await nursery.start(serve_to_the_end)
            yield App(hub, int(urlsplit(url).port or 0), shut_down, ended, sse)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def opened(app: App, query: str = "", origin: str | None = None) -> AsyncIterator[Peer]:
    """Open a WebSocket over a stream that this closes: trio-websocket does not when the server closes."""
    headers = [] if origin is None else [(b"Origin", origin.encode())]
    stream = await trio.open_tcp_stream("127.0.0.1", app.port)
    async with stream, trio.open_nursery() as nursery:
        connection = await trio_websocket.wrap_client_stream(
            nursery,
            stream,
            f"127.0.0.1:{app.port}",
            f"/ws{query}",
            subprotocols=["trio-sse.v1"],
            extra_headers=headers,
        )
        yield Peer(connection)
        with trio.move_on_after(1):
            await connection.aclose()
        nursery.cancel_scope.cancel()


async def test_it_subscribes_and_resumes_without_a_gap(run: Callable[..., Any]) -> None:
    async with run() as app:
        async with opened(app) as peer:
            assert peer.connection.subprotocol == "trio-sse.v1"
            assert await peer.ask(type="subscribe", topics=["a", "b"]) == {
                "type": "topics",
                "topics": ["a", "b"],
                "last_event_id": app.hub.last_event_id,
            }
            await app.hub.publish("a", {"n": 1}, event="tick")
            frame = await peer.frame()
            assert frame == {"id": app.hub.last_event_id, "event": "tick", "data": '{"n":1}'}
            assert await peer.ask(type="unsubscribe", topics=["b"]) == {"type": "topics", "topics": ["a"]}
        await until(lambda: app.hub.statistics().subscriptions == 0)
        for number in range(2, 5):
            await app.hub.publish("a", f"{number}")
        async with opened(app, f"?last_event_id={frame['id']}") as peer:
            await peer.ask(type="subscribe", topics=["a"])
            assert [(await peer.frame())["data"] for _ in range(3)] == ["2", "3", "4"]
        async with opened(app) as peer:
            await peer.ask(type="subscribe", topics=["a"], last_event_id="unknown")
            assert (await peer.frame())["event"] == "reset"


async def test_it_publishes_where_that_is_allowed(run: Callable[..., Any]) -> None:
    async with run() as app, opened(app) as one, opened(app) as other:
        await other.ask(type="subscribe", topics=["public"])
        await one.connection.send_message(json.dumps({"type": "publish", "topic": "public", "data": "hello"}))
        assert (await other.frame())["data"] == "hello"
        refused: list[tuple[dict[str, object], str]] = [
            ({"type": "publish", "topic": "other", "data": 1}, "you may not publish to 'other'"),
            ({"type": "subscribe", "topics": ["secret"]}, "you may not subscribe to 'secret'"),
            ({"type": "leap"}, "the type must be subscribe, unsubscribe or publish, not 'leap'"),
        ]
        for frame, error in refused:
            assert await one.ask(**frame) == {"type": "error", "error": error}


async def test_pages_of_other_origins_are_refused(run: Callable[..., Any]) -> None:
    async with run() as app:
        async with Client(await trio.open_tcp_stream("127.0.0.1", app.port)) as client:
            head = await client.get("/ws", *HANDSHAKE, "Origin: http://evil.example")
            assert head.status == 403
        async with opened(app, origin=f"http://127.0.0.1:{app.port}") as peer:
            await peer.ask(type="subscribe", topics=["a"])


async def test_other_origins_can_be_allowed(run: Callable[..., Any]) -> None:
    origin = "https://friend.example"
    async with run(origins=[origin]) as app, opened(app, origin=origin) as peer:
        await peer.ask(type="subscribe", topics=["a"])


async def test_a_client_that_lags_is_closed_with_a_reason(run: Callable[..., Any]) -> None:
    async with run() as app, opened(app) as peer:
        await peer.ask(type="subscribe", topics=["a"])
        while app.hub.statistics().subscriptions:
            for _ in range(20):
                await app.hub.publish("a", "x" * 10_000)
            await trio.lowlevel.checkpoint()
        assert await peer.closed() == (4001, "slow_consumer")


@pytest.mark.integration
@pytest.mark.parametrize("serve", [serve_by_server, trio_sse.hypercorn.serve])
@pytest.mark.parametrize("is_subscribed", [True, False])
async def test_a_shutdown_closes_with_its_reason(
    no_leak: LeakCheck, serve: Serve, is_subscribed: bool
) -> None:
    async with running(serve, no_leak) as app, opened(app) as peer:
        if is_subscribed:
            await peer.ask(type="subscribe", topics=["a"])
        else:
            await peer.ask(type="leap")
        app.shut_down.set()
        assert await peer.closed() == (1001, "server_shutdown")
        await app.has_ended.wait()


@pytest.mark.usefixtures("quick_shutdown")
async def test_a_websocket_that_opens_within_a_shutdown_is_closed(no_leak: LeakCheck) -> None:
    async def shut_down() -> None:
        app.shut_down.set()
        await trio.testing.wait_all_tasks_blocked(0.01)

    serve = trio_sse.hypercorn.serve  # our server refuses it
    async with running(serve, no_leak, before_accept=shut_down) as app, opened(app) as peer:
        assert await peer.closed() == (1001, "server_shutdown")
        await app.has_ended.wait()


async def test_an_app_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="has not been started"):
        await QuartSSE(QuartTrio(__name__)).serve_topics(topics=["a"])


@pytest.mark.integration
async def test_an_exception_closes_with_another_code_than_an_end(
    run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with run() as app, opened(app) as peer:
        await peer.connection.send_message(json.dumps({"type": "subscribe", "topics": ["broken"]}))
        assert await peer.closed() == (1011, "handler_error")
        await until(lambda: "Exception on websocket /ws" in caplog.text)


async def test_it_is_listed_by_its_identity_and_revoked(run: Callable[..., Any]) -> None:
    async with run(identity="ada", expires_at=time.time() + 1000) as app:
        async with opened(app) as peer:
            assert (await peer.ask(type="subscribe", topics=["a", "b"]))["topics"] == ["a", "b"]
            await app.hub.publish("a", "one")
            assert (await peer.frame())["data"] == "one"
            await until(lambda: app.sse.connections()[0].events_sent == 1)
            (info,) = app.sse.connections(identity="ada", topic="b", route="/ws")
            assert (info.transport, info.host, info.path) == ("websocket", "quart", "/ws")
            assert info.events_sent == 1 < info.bytes_sent
            assert info.expires_at is not None
            assert (info.queued_events, info.is_secure) == (0, False)
            assert await app.hub.revoke("ada") == 1
            assert await app.hub.revoke("ada") == 0
            assert await peer.closed() == (4004, "revoked")
        async with opened(app) as peer:
            await until(lambda: bool(app.sse.connections()))
            assert app.sse.close_connections(identity="ada", reconnect=False) == 1
            assert await peer.closed() == (1000, "finished")
        await until(lambda: not app.sse.connections())


async def test_it_is_closed_when_its_credentials_expire(run: Callable[..., Any]) -> None:
    async with run(identity="ada", expires_at=time.time() - 1) as app, opened(app) as peer:
        assert await peer.closed() == (4005, "expired")
        await until(lambda: not app.sse.connections())


@pytest.mark.parametrize("options", [{"identity": ""}, {"expires_at": "soon"}])
async def test_an_identity_or_time_that_is_not_acceptable_is_refused(
    run: Callable[..., Any], options: dict[str, Any]
) -> None:
    async with run(**options) as app:
        async with Client(await trio.open_tcp_stream("127.0.0.1", app.port)) as client:
            assert (await client.get("/ws", *HANDSHAKE)).status == 500
        assert app.sse.connections() == []
