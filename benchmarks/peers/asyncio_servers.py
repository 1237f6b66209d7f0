"""sse-starlette, FastAPI or aiohttp-sse, each on uvloop. The first argument chooses.

The first two run on uvicorn with httptools, as their documentation recommends. None of them has a broadcast,
so each client has a queue, and its generator or handler sends the events from it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import uvloop
from control import DATA, gate, run_commands

clients: set[asyncio.Queue[tuple[int, str]]] = set()
numbers = count(1)


def publish(data: str) -> None:
    message = (next(numbers), data)
    for queue in clients:
        queue.put_nowait(message)


async def updates() -> AsyncIterator[tuple[int, str]]:
    queue: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    clients.add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        clients.discard(queue)


async def own() -> AsyncIterator[tuple[int, str]]:
    sent = 0
    while True:
        for _ in range(await gate.wait()):
            sent += 1
            yield sent, DATA


def sse_starlette_app() -> Any:
    from sse_starlette import EventSourceResponse, ServerSentEvent
    from starlette.applications import Starlette
    from starlette.routing import Route

    def endpoint(source: Any) -> Any:
        async def stream(request: Any) -> Any:
            return EventSourceResponse(
                ServerSentEvent(data=data, id=str(number), sep="\n") async for number, data in source()
            )

        return stream

    return Starlette(routes=[Route("/updates", endpoint(updates)), Route("/own", endpoint(own))])


def fastapi_app() -> Any:
    from fastapi import FastAPI
    from fastapi.sse import EventSourceResponse, ServerSentEvent

    app = FastAPI()

    @app.get("/updates", response_class=EventSourceResponse)
    async def stream_updates():  # type: ignore[no-untyped-def]  # FastAPI would make a model of the type
        async for number, data in updates():
            yield ServerSentEvent(raw_data=data, id=str(number))

    @app.get("/own", response_class=EventSourceResponse)
    async def stream_own():  # type: ignore[no-untyped-def]
        async for number, data in own():
            yield ServerSentEvent(raw_data=data, id=str(number))

    return app


def end(*_: object) -> None:
    """Exit at once, without closing thousands of open streams."""
    os._exit(0)


async def run_uvicorn(app: Any) -> None:
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(app, http="httptools", log_level="warning", access_log=False, backlog=4096)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for this
        await asyncio.sleep(0.01)
    await run_commands(listening.getsockname()[1], publish)
    end(serving)


async def run_aiohttp() -> None:
    from aiohttp import web
    from aiohttp_sse import sse_response

    def handler(source: Any) -> Any:
        async def stream(request: web.Request) -> web.StreamResponse:
            async with sse_response(request) as response:
                async for number, data in source():
                    await response.send(data, id=str(number))
            return response

        return stream

    app = web.Application()
    app.router.add_get("/updates", handler(updates))
    app.router.add_get("/own", handler(own))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    await web.SockSite(runner, listening, backlog=4096).start()
    await run_commands(listening.getsockname()[1], publish)
    end()


async def main(name: str) -> None:
    match name:
        case "sse-starlette":
            await run_uvicorn(sse_starlette_app())
        case "fastapi":
            await run_uvicorn(fastapi_app())
        case "aiohttp-sse":
            await run_aiohttp()


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    uvloop.run(main(sys.argv[1]))
