"""Which apps are accepted, and the life of an app and its hub."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import quart
import trio
from hypercorn.trio import serve as serve_by_hypercorn
from quart_trio import QuartTrio
from trio.testing import MockClock

from trio_sse import Connection, EndReason, Hub, Server
from trio_sse.quart import QuartSSE
from trio_sse.testing import Client

from ..support.cases import each_case
from ..support.client import Client as RawClient
from ..support.hypercorn_config import make_config
from ..support.leaks import LeakCheck
from ..support.quart_app import App, data_of
from ..support.waiting import SECONDS

# Attaching to an app


def test_only_a_quart_trio_app_is_accepted() -> None:
    with pytest.raises(TypeError, match="must be a QuartTrio"):
        QuartSSE(quart.Quart(__name__))


def test_an_app_has_one_extension_and_an_extension_has_one_app() -> None:
    sse = QuartSSE(QuartTrio(__name__))
    with pytest.raises(RuntimeError, match="one QuartSSE"):
        sse.init_app(QuartTrio(__name__))
    app = QuartTrio(__name__)
    QuartSSE(app)
    with pytest.raises(RuntimeError, match="one QuartSSE"):
        QuartSSE(app)


@each_case(
    "options", [{"keepalive": 0}, {"max_connections": 0}, {"drain_timeout": -1}, {"write_timeout": True}]
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        QuartSSE(**options)


def test_a_plain_function_is_no_handler() -> None:
    def plain(connection: Connection) -> None: ...

    with pytest.raises(TypeError, match="coroutine or async generator function"):
        QuartSSE().stream(plain)  # type: ignore[arg-type]  # that is the mistake


async def test_routes_may_be_declared_before_the_app(no_leak: LeakCheck, autojump_clock: MockClock) -> None:
    sse = QuartSSE()

    @sse.route("/early")
    async def early(connection: Connection) -> None:
        await connection.send("early")

    app = QuartTrio(__name__)
    sse.init_app(app)
    async with Client(no_leak.watch(Server(app))) as client:
        assert await data_of(client, "/early") == ["early"]


async def test_an_app_that_was_not_started_says_so(made: App) -> None:
    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        raise AssertionError

    made.app.testing = True
    with pytest.raises(ExceptionGroup) as raised:
        await made.app.test_client().get("/s")
    error: BaseException = raised.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert "has not been started" in str(error)


# The hub and the app's lifespan


async def test_the_hub_runs_from_the_app_s_start_to_its_end(made: App) -> None:
    published: list[str] = []

    async def publish(what: str) -> None:
        await made.sse.hub.publish("t", what)
        published.append(what)

    made.app.before_serving(partial(publish, "before serving"))
    made.app.after_serving(partial(publish, "after serving"))

    @made.app.while_serving
    async def while_serving() -> AsyncGenerator[None, None]:
        await publish("while serving")
        yield

    async with made.client():
        assert published == ["before serving", "while serving"]
        assert made.sse.hub.is_running
    assert published == ["before serving", "while serving", "after serving"]
    assert not made.sse.hub.is_running


async def test_an_app_may_be_started_again(made: App) -> None:
    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.subscribe("t")

    for number in range(2):
        async with made.client() as client, client.stream("/s") as stream:
            await made.sse.hub.publish("t", f"{number}")
            assert (await stream.event()).data == f"{number}"


async def test_a_hub_that_runs_already_is_shared(no_leak: LeakCheck, autojump_clock: MockClock) -> None:
    hub = no_leak.watch_hub(Hub())
    made = App(no_leak, hub=hub)

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.subscribe("t")

    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        async with made.client() as client, client.stream("/s") as stream:
            await hub.publish("t", "shared")
            assert (await stream.event()).data == "shared"
        assert hub.is_running
        nursery.cancel_scope.cancel()


async def test_open_streams_end_with_the_app(made: App) -> None:
    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.subscribe("t")

    async with made.client() as client, client.stream("/s") as stream:
        await client.server.drain()
        await stream.wait_over()
        assert stream.is_cut
        assert stream.retry is not None
    assert made.ends == [EndReason.SERVER_SHUTDOWN]


# Plain hypercorn


@asynccontextmanager
async def on_hypercorn(app: Any) -> AsyncIterator[RawClient]:
    """Serve an app by hypercorn alone; yield a client that is connected to it."""
    config = make_config()
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            (where,) = await nursery.start(partial(serve_by_hypercorn, app, config))
            port = int(where.rpartition(":")[2])
            async with RawClient(await trio.open_tcp_stream("127.0.0.1", port)) as client:
                yield client
            nursery.cancel_scope.cancel()


async def test_it_runs_on_hypercorn_alone(no_leak: LeakCheck) -> None:
    made = App(no_leak)

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.subscribe("t")

    async with on_hypercorn(made.app) as client:
        assert (await client.get("/s")).status == 200
        await made.sse.hub.publish("t", "hello")
        assert (await client.event()).data == "hello"


async def test_on_hypercorn_a_stream_that_ends_while_hooks_run_is_truncated(no_leak: LeakCheck) -> None:
    made = App(no_leak)
    opened: list[Connection] = []

    @made.app.after_request
    async def after(response: Any) -> Any:
        opened[0].close(reconnect=True)
        while not made.ends:
            await trio.lowlevel.checkpoint()
        return response

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        opened.append(connection)
        await connection.send("too late")
        raise AssertionError

    async with on_hypercorn(made.app) as client:
        assert (await client.get("/s")).status == 200
        assert await client.rest() == []
        assert client.is_cut
    assert made.ends == [EndReason.RECONNECT]


async def test_middleware_that_wraps_send_sees_the_bodies(no_leak: LeakCheck) -> None:
    made = App(no_leak)

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.send("hello")

    seen: list[bytes] = []

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            if message["type"] == "http.response.body":
                seen.append(message.get("body", b""))
            await send(message)

        await made.app(scope, receive, noting if scope["type"] == "http" else send)

    async with on_hypercorn(outer) as client:
        await client.get("/s")
        assert [event.data for event in await client.rest()] == ["hello"]
        assert client.is_ended
    assert b"data: hello\n\n" in seen


@pytest.mark.parametrize(("answer", "status"), [(("no", 403), 403), ("text", 200), ({"json": 1}, 200)])
async def test_what_a_handler_returns_is_the_response(
    made: App, autojump_clock: MockClock, answer: Any, status: int
) -> None:
    @made.sse.route("/s")
    async def s(connection: Connection) -> Any:
        return answer

    async with made.client() as client:
        response = await client.get("/s")
    assert response.status == status
    assert response.headers.get("content-type") != "text/event-stream"
    assert made.ends == [EndReason.REFUSED if status >= 400 else EndReason.ANSWERED]


async def test_a_decorator_below_the_route_may_answer_instead(made: App, autojump_clock: MockClock) -> None:
    def login_required(handler: Any) -> Any:
        @functools.wraps(handler)
        async def wrapper(*arguments: Any, **options: Any) -> Any:
            return quart.redirect("/login")

        return wrapper

    @made.sse.route("/s")
    @login_required
    async def s(connection: Connection) -> None:
        raise AssertionError

    async with made.client() as client:
        response = await client.get("/s")
    assert (response.status, response.headers.get("location")) == (302, "/login")
