"""The apps and servers of `hosts.py`, with the handlers on each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio
from quart import after_this_request, request, websocket
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.routing import Route

from trio_sse import Connection, Hub, Response, Server
from trio_sse._stream.statistics import added_statistics
from trio_sse.asgi import EventStream, event_stream
from trio_sse.quart import QuartSSE, StreamStatistics

from .host_handlers import Life, echo, handlers


def make_native(hub: Hub, life: Life, **options: Any) -> Server:
    """Make the server that has the handlers as routes."""
    server = Server(hub=hub, **options)
    server.on_connect(life.note_start)
    server.on_disconnect(life.note_end)
    for name, handler in handlers(hub, life).items():
        server.route(f"/{name}", methods=["GET", "POST"])(handler)
    server.route("/echo", methods=["POST"])(echo)
    return server


def make_quart(hub: Hub, life: Life, **options: Any) -> tuple[QuartTrio, QuartSSE]:
    """Make the app that has the handlers as routes."""
    app = QuartTrio(__name__)
    sse = QuartSSE(app, hub=hub, **options)
    sse.on_connect(life.note_start)
    sse.on_disconnect(life.note_end)
    by_name = handlers(hub, life)

    # To compile a rule takes 2 ms: forty of them would take longer than most tests.
    @sse.route(f"/<any({','.join(by_name)}):name>", methods=["GET", "POST"])
    async def handler(connection: Connection, name: str) -> Response | None:
        return await by_name[name](connection)

    @sse.route("/echo", methods=["POST"])
    async def echo(connection: Connection) -> None:
        await connection.send(await request.get_data(as_text=True))

    @sse.route("/cookie")
    async def cookie(connection: Connection) -> None:
        @after_this_request
        async def add(response: Any) -> Any:
            response.set_cookie("a", "b")
            response.headers["X-Mine"] = "yes"
            return response

        await connection.send("with a cookie")

    @app.get("/generated")
    async def generated() -> Any:
        async def generate() -> AsyncIterator[bytes]:
            life.visit("after the head")
            try:
                yield b"one"
                life.visit("in mid-stream")
            finally:
                life.visit("in finally")

        life.visit("before the head")
        return generate(), {"Content-Type": "text/plain"}

    @app.websocket("/socket")
    async def socket() -> None:
        life.visit("before the head")
        try:
            await websocket.accept()
            life.visit("after the head")
            await websocket.send("one")
            life.visit("in mid-stream")
        finally:
            life.visit("in finally")

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    return app, sse


def make_event_streams(hub: Hub, life: Life, **options: Any) -> dict[str, EventStream]:
    """Return an endpoint for each handler, by its path's name."""
    methods = ["GET", "POST"]
    endpoints = {
        name: event_stream(handler, hub=hub, methods=methods, **options)
        for name, handler in handlers(hub, life).items()
    }
    endpoints["echo"] = event_stream(echo, hub=hub, methods=["POST"], **options)
    for endpoint in endpoints.values():
        endpoint.on_connect(life.note_start)
        endpoint.on_disconnect(life.note_end)
    return endpoints


def make_app(framework: str, endpoints: Mapping[str, EventStream], hub: Hub) -> Any:
    """Return an app with the endpoints, which runs the hub."""

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            if not hub.is_running:
                await nursery.start(hub.run)
            yield
            nursery.cancel_scope.cancel()

    if framework == "litestar":
        from litestar import Litestar, asgi  # slow to import

        # One handler, and no pages about it: to prepare them takes longer than most tests, 14 ms.
        handler = asgi([f"/{name}" for name in endpoints], copy_scope=False)(call_one_of(endpoints))
        return Litestar([handler], logging_config=None, openapi_config=None, lifespan=[lifespan])
    if framework == "fastapi":
        from fastapi import FastAPI  # slow to import

        app: Starlette = FastAPI(lifespan=lifespan)
    else:
        app = Starlette(lifespan=lifespan)
    for name, endpoint in endpoints.items():
        app.router.routes.append(Route(f"/{name}", endpoint))  # of all methods: the endpoint has its own
    return app


def call_one_of(endpoints: Mapping[str, EventStream]) -> Any:
    """Return an ASGI handler, as Litestar takes it, that calls the endpoint which the path names."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await endpoints[scope["path"].removeprefix("/")](scope, receive, send)

    return call


def statistics_of(endpoints: Mapping[str, EventStream]) -> Callable[[], StreamStatistics]:
    """Return a function that returns the statistics of all endpoints."""

    def statistics() -> StreamStatistics:
        return added_statistics([endpoint.statistics() for endpoint in endpoints.values()])

    return statistics
