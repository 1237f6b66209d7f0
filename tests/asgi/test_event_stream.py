"""`event_stream` in apps of several frameworks, on our server, in memory, and on hypercorn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_sse.hypercorn
from trio_sse import Connection, EndReason, HTTPException, Hub, Server
from trio_sse.asgi import EventStream, event_stream
from trio_sse.testing import Client

from ..support.cases import each_case
from ..support.client import Client as RawClient
from ..support.hypercorn_config import make_config
from ..support.leaks import LeakCheck
from ..support.waiting import SECONDS


async def follow(connection: Connection, topic: str) -> None:
    await connection.subscribe(topic)


def bare(endpoint: EventStream) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await endpoint({**scope, "path_params": {"topic": scope["path"][1:]}}, receive, send)

    return app


def starlette(endpoint: EventStream) -> Any:
    return Starlette(routes=[Route("/{topic}", endpoint)])


def fastapi(endpoint: EventStream) -> Any:
    from fastapi import FastAPI  # slow to import

    app = FastAPI()
    app.router.routes.append(Route("/{topic}", endpoint))
    return app


def litestar(endpoint: EventStream) -> Any:
    from litestar import Litestar, asgi  # slow to import

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await endpoint({**scope, "path_params": {"topic": "prices"}}, receive, send)

    return Litestar(route_handlers=[asgi("/prices", copy_scope=False)(call)], logging_config=None)


@pytest.mark.parametrize("framework", [bare, starlette, fastapi, litestar])
async def test_an_app_of_any_framework_streams(
    no_leak: LeakCheck, autojump_clock: MockClock, framework: Callable[[EventStream], Any]
) -> None:
    hub = no_leak.watch_hub(Hub())
    app = framework(event_stream(follow, hub=hub))
    async with Client(no_leak.watch(Server(app, hub=hub))) as client:
        async with client.stream("/prices") as stream:
            assert stream.headers.get("content-type") == "text/event-stream"
            await hub.publish("prices", "one")
            assert (await stream.event()).data == "one"
            last = stream.last_event_id
            await trio.sleep(31)
            assert stream.keepalives == 2
        await hub.publish("prices", "two")
        async with client.stream("/prices", last_event_id=last) as stream:
            assert (await stream.event()).data == "two"


# Starlette, in more detail

Serve = Callable[..., AbstractAsyncContextManager[tuple[EventStream, Client]]]


@pytest.fixture
def serve(no_leak: LeakCheck) -> Serve:
    """Serve a handler at `/s` in an app of Starlette."""

    @asynccontextmanager
    async def serving(
        handler: Any, *, middleware: Any = (), **options: Any
    ) -> AsyncIterator[tuple[EventStream, Client]]:
        hub = no_leak.watch_hub(Hub())
        endpoint = event_stream(handler, hub=hub, **options)
        app = Starlette(routes=[Route("/s", endpoint)], middleware=middleware)
        async with Client(no_leak.watch(Server(app, hub=hub))) as client:
            yield endpoint, client

    return serving


async def greet(connection: Connection) -> None:
    await connection.send("hello")


async def forward(connection: Connection) -> None:
    await connection.subscribe("t")


async def test_a_stream_on_our_server_is_written_directly(serve: Serve) -> None:
    kinds: list[bool] = []

    async def look(connection: Connection) -> None:
        kinds.append(type(connection._stream.transport).__name__ == "ASGITransport")
        await connection.send("x")

    async with serve(look) as (_, client), client.stream("/s") as stream:
        await stream.wait_over()
        assert stream.is_ended
    assert kinds == [False]


async def test_the_identity_is_read_from_the_scope(serve: Serve, autojump_clock: MockClock) -> None:
    seen: list[str | None] = []

    async def look(connection: Connection) -> None:
        seen.append(connection.identity)
        await connection.subscribe("t")

    def user_of(scope: Any) -> str | None:
        user: str = scope["query_string"].decode()
        if user == "eve":
            raise HTTPException(403)
        return user or None

    async with serve(look, identity=user_of) as (endpoint, client):
        async with client.stream("/s?ada") as stream, client.stream("/s"):
            assert [info.identity for info in await endpoint.collect_connections()] == ["ada", None]
            assert await endpoint.hub.revoke("ada") == 1
            await stream.wait_over()
            assert stream.is_cut
            assert [info.host for info in client.server.connections()] == ["asgi"]
        accept = {"Accept": "application/json"}
        assert (await client.get("/s?bob&wait=0", headers=accept)).status == 200
        assert (await client.request("HEAD", "/s?bob")).status == 200
        assert [(await client.get("/s?eve", headers=h)).status for h in ({}, accept)] == [403, 403]
        assert seen == ["ada", None, "bob&wait=0", "bob"]
        assert len(endpoint._manager.identities) == len(client.server._manager.identities) == 0


async def test_the_server_s_hub_revokes_the_streams_of_an_endpoint_with_its_own(no_leak: LeakCheck) -> None:
    opened: list[Connection] = []
    endpoint = event_stream(follow, hub=no_leak.watch_hub(Hub()))
    endpoint.on_connect(opened.append)
    server = no_leak.watch(Server(starlette(endpoint)))
    async with Client(server) as client, client.server.hub.subscribe("x"), trio.open_nursery() as nursery:
        await nursery.start(endpoint.hub.run)
        async with client.stream("/a") as early, client.stream("/b") as late:
            opened[0].identity = "ada"
            assert await server.hub.revoke("ada") == 1
            opened[1].identity = "ada"
            await early.wait_over()
            await late.wait_over()
            assert [one.end_reason for one in opened] == [EndReason.REVOKED] * 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [204, 403])
async def test_a_refusal_is_answered(serve: Serve, status: int) -> None:
    async def refuse(connection: Connection) -> None:
        raise HTTPException(status, "no", {"X-Why": "because"})

    async with serve(refuse) as (_, client):
        response = await client.get("/s")
        assert (response.status, response.headers.get("x-why")) == (status, "because")
        assert response.text == ("" if status == 204 else "no\n")


async def test_an_invalid_topic_is_a_400(serve: Serve) -> None:
    async def bad(connection: Connection) -> None:
        await connection.subscribe("")

    async with serve(bad) as (_, client):
        assert (await client.get("/s")).status == 400


async def test_an_exception_before_the_stream_goes_to_the_framework(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(connection: Connection) -> None:
        raise ValueError("secret")

    async with serve(fail) as (_, client):
        response = await client.get("/s")
        assert (response.status, response.text) == (500, "Internal Server Error")


async def test_an_exception_in_the_stream_truncates_it(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(connection: Connection) -> None:
        await connection.send("one")
        raise ValueError("secret")

    async with serve(fail) as (_, client), client.stream("/s") as stream:
        await stream.wait_over()
        assert (stream.is_cut, len(stream.events_nowait())) == (True, 1)


async def test_only_the_named_methods_are_allowed(serve: Serve) -> None:
    async def echo(connection: Connection) -> None:
        await connection.send(connection.request.body.decode())

    async with serve(echo, methods=["POST"], max_body_size=10) as (_, client):
        assert (await client.post("/s", body="hello")).text == "data: hello\n\n"
        assert (await client.post("/s", body="x" * 11)).status == 413
        response = await client.get("/s")
        assert (response.status, response.headers.get("allow")) == (405, "POST")
    async with serve(greet) as (_, client):
        head = await client.request("HEAD", "/s")
        assert (head.status, head.body) == (200, b"")
        assert head.headers.get("content-type") == "text/event-stream"


async def test_headers_limits_and_hooks_apply(serve: Serve) -> None:
    ends: list[EndReason | None] = []
    async with serve(forward, headers={"X-Mine": "yes"}, max_connections=1) as (endpoint, client):
        endpoint.on_connect(lambda connection: None)
        endpoint.on_disconnect(lambda connection: ends.append(connection.end_reason))
        assert endpoint.hub.is_running
        async with client.stream("/s") as stream:
            assert stream.headers.get("x-mine") == "yes"
            assert (await client.get("/s")).status == 503
        await wait_all_tasks_blocked()
        assert ends == [EndReason.CLIENT_DISCONNECTED]


async def test_a_stream_is_truncated_at_its_longest_duration(serve: Serve, autojump_clock: MockClock) -> None:
    async with serve(forward, max_duration=20) as (_, client), client.stream("/s") as stream:
        await trio.sleep(21)
        assert stream.is_cut


async def test_a_drain_has_clients_reconnect(serve: Serve, autojump_clock: MockClock) -> None:
    async with serve(forward) as (_, client), client.stream("/s") as stream:
        await client.server.drain()
        assert stream.is_cut
        assert stream.retry is not None


async def pass_on(request: Any, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["X-Middleware"] = "yes"
    return response


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        (Middleware(GZipMiddleware, minimum_size=1), {}),
        (Middleware(CORSMiddleware, allow_origins=["*"]), {"access-control-allow-origin": "*"}),
        (Middleware(BaseHTTPMiddleware, dispatch=pass_on), {"x-middleware": "yes"}),
    ],
    ids=["gzip", "cors", "base"],
)
async def test_middleware_around_a_stream_keeps_its_headers(
    serve: Serve, autojump_clock: MockClock, middleware: Middleware, expected: dict[str, str]
) -> None:
    async with serve(forward, middleware=[middleware]) as (endpoint, client):
        fields = {"Accept-Encoding": "gzip", "Origin": "https://example.org"}
        async with client.stream("/s", headers=fields) as stream:
            assert stream.headers.get("content-encoding") is None
            await endpoint.hub.publish("t", "through")
            assert (await stream.event()).data == "through"
            assert expected.items() <= dict(stream.headers).items()


async def test_other_scopes_than_http_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="HTTP only"):
        await event_stream(greet)({"type": "websocket"}, None, None)  # type: ignore[arg-type]  # never called


@each_case(
    "options", [{"keepalive": 0}, {"max_body_size": -1}, {"max_connections": 0}, {"headers": {"a\n": "b"}}]
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        event_stream(greet, **options)


# On hypercorn


@asynccontextmanager
async def on_hypercorn(app: Any, hub: Hub, **options: Any) -> AsyncIterator[Callable[[], Any]]:
    config = make_config()
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            (where,) = await nursery.start(partial(trio_sse.hypercorn.serve, app, config, **options))

            async def connect() -> RawClient:
                return RawClient(await trio.open_tcp_stream("127.0.0.1", int(where.rpartition(":")[2])))

            yield connect
            nursery.cancel_scope.cancel()


async def test_a_stream_on_hypercorn_keeps_the_promises(no_leak: LeakCheck) -> None:
    hub = no_leak.watch_hub(Hub())
    ends: list[EndReason | None] = []
    endpoint = event_stream(follow, hub=hub)
    endpoint.on_disconnect(lambda connection: ends.append(connection.end_reason))
    async with on_hypercorn(starlette(endpoint), hub) as connect:
        async with await connect() as client:
            assert (await client.get("/t")).status == 200
            await hub.publish("t", "one")
            assert (await client.event()).data == "one"
        while not ends:  # noqa: ASYNC110  # the client goes in its own time
            await trio.sleep(0.005)
        assert ends == [EndReason.CLIENT_DISCONNECTED]
        async with await connect() as client:
            await client.get("/t", f"Last-Event-ID: {hub.first_event_id}")
            assert (await client.event()).data == "one"


async def test_a_shutdown_of_hypercorn_ends_its_streams_first(no_leak: LeakCheck) -> None:
    hub = no_leak.watch_hub(Hub())
    stop = trio.Event()
    app = starlette(event_stream(follow, hub=hub, max_duration=100))
    options: dict[str, Any] = {"shutdown_trigger": stop.wait, "drain_timeout": 2}
    async with on_hypercorn(app, hub, **options) as connect, await connect() as client:
        await client.get("/t")
        await hub.publish("t", "one")
        await client.event()
        stop.set()
        await client.rest()
        assert (client.is_cut, client.retry is not None) == (True, True)


async def test_a_stream_that_finishes_on_hypercorn_is_complete(no_leak: LeakCheck) -> None:
    hub = no_leak.watch_hub(Hub())
    app = Starlette(routes=[Route("/s", event_stream(greet, hub=hub))])
    async with on_hypercorn(app, hub) as connect, await connect() as client:
        await client.get("/s")
        assert [event.data for event in await client.rest()] == ["hello"]
        assert client.is_ended


async def test_on_hypercorn_several_tasks_may_send_the_first_event(no_leak: LeakCheck) -> None:
    async def send_all(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(connection.send, f"{number}")

    hub = no_leak.watch_hub(Hub())
    app = Starlette(routes=[Route("/s", event_stream(send_all, hub=hub))])
    async with on_hypercorn(app, hub) as connect, await connect() as client:
        assert (await client.get("/s")).status == 200
        assert sorted(str(event.data) for event in await client.rest()) == ["0", "1", "2", "3", "4"]
        assert client.is_ended


async def test_a_head_that_is_cancelled_ends_the_stream(no_leak: LeakCheck) -> None:
    ends: list[EndReason | None] = []
    sending = trio.Event()

    async def give_up(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, "never")
            await sending.wait()
            nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    hub = no_leak.watch_hub(Hub())
    endpoint = event_stream(give_up, hub=hub, write_timeout=0.1)
    endpoint.on_disconnect(lambda connection: ends.append(connection.end_reason))

    async def send(message: Any) -> None:
        sending.set()
        await trio.sleep_forever()

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": "1.1"}

    async def receive() -> Any:
        if not received:
            received.append(True)
            return {"type": "http.request", "body": b""}
        return await trio.sleep_forever()

    received: list[bool] = []
    with trio.fail_after(SECONDS):
        await endpoint(scope, receive, send)
    assert ends == [EndReason.WRITE_TIMEOUT]


@pytest.mark.parametrize("ticks", range(6))
async def test_a_stream_may_end_while_another_task_sends_its_head(
    ticks: int, no_leak: LeakCheck, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[Connection] = []

    async def handler(connection: Connection) -> None:
        opened.append(connection)
        await connection.start()
        await trio.sleep_forever()

    endpoint = event_stream(handler)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        async with trio.open_nursery() as nursery:

            async def send_later(message: Any) -> None:
                if message["type"] != "http.response.start":
                    return
                nursery.start_soon(send, message)
                for _ in range(ticks):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                opened[-1].close(reconnect=True)

            await endpoint(scope, receive, send_later)

    server = no_leak.watch(Server(app, drain_timeout=1))
    for _ in range(4):
        async with Client(server) as client:
            assert (await client.get("/any")).status in (200, 503)  # or it has just begun
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
