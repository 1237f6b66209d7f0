"""An app with the runs of `apps.runs`, for tests in a browser: its argument says which, and on which server.

It is `quart` or `starlette`, on our server, or with ` on hypercorn`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

import trio_sse.hypercorn
from trio_sse import Hub, Run, Runs, Server, client_script
from trio_sse.asgi import EventStream, run_endpoints
from trio_sse.quart import QuartSSE

from ..hypercorn_config import make_config
from .counting import PAGE, count

hub = Hub()
runs = Runs(hub, ttl=60)


async def counting(run: Run, body: dict[str, Any]) -> dict[str, int]:
    """Count as the request's body says."""
    return await count(run, body["to"], body["pause"])


def cut_all(owner: QuartSSE | EventStream) -> None:
    """Cut all streams."""
    for info in owner.connections():
        owner.close_connections(id=info.id)


def make_quart() -> Any:
    """Return a Quart app."""
    from quart import Response
    from quart_trio import QuartTrio

    app = QuartTrio("tests")
    sse = QuartSSE(app, hub=hub)
    sse.run("/runs", runs=runs)(counting)

    @app.get("/")
    async def page() -> str:
        return PAGE

    @app.get("/trio-sse.js")
    async def script() -> Response:
        return Response(client_script(), content_type="text/javascript")

    @app.post("/cut")
    async def cut() -> str:
        cut_all(sse)
        return ""

    return app


def make_starlette() -> Any:
    """Return a Starlette app."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    endpoints = run_endpoints(counting, runs)

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE)

    async def script(request: Request) -> Response:
        return Response(client_script(), media_type="text/javascript")

    async def cut(request: Request) -> Response:
        for endpoint in (endpoints.start, endpoints.join):
            cut_all(endpoint)
        return Response("")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            yield
            nursery.cancel_scope.cancel()

    return Starlette(
        routes=[
            Route("/", page),
            Route("/trio-sse.js", script),
            Route("/cut", cut, methods=["POST"]),
            Route("/runs", endpoints.start),
            Route("/runs/{id}", endpoints.join),
            Route("/runs/{id}/cancel", endpoints.cancel),
        ],
        lifespan=lifespan,
    )


async def main() -> None:
    """Serve until cancelled."""
    kind, _, server = sys.argv[1].partition(" on ")
    app = make_quart() if kind == "quart" else make_starlette()
    if server:
        serve: Any = partial(trio_sse.hypercorn.serve, app, make_config())
    else:
        serve = partial(Server(app).serve, "127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(serve)
        print(address if isinstance(address, str) else f"http://127.0.0.1:{address[1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
