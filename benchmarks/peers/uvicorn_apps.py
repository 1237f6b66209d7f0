"""An app of `benchmarks/servers/apps.py` on uvicorn, with uvloop and httptools: the first argument's."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop
from control import run_commands

sys.path.append(str(Path(__file__).parent.parent / "servers"))

from apps import quart_app, starlette_app
from exchanges_app import exchanges_app

# As long as ours, so that idle connections are compared.
_KEEP_ALIVE_SECONDS = 75


def publish(data: str) -> None:
    raise NotImplementedError("these apps have no events")


async def main(name: str) -> None:
    if name == "starlette":
        app = starlette_app()
    elif name == "exchanges":
        app = exchanges_app
    else:
        from quart import Quart

        app = quart_app(Quart)
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(
        app,
        http="httptools",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        backlog=4096,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for this
        await asyncio.sleep(0.01)
    await run_commands(listening.getsockname()[1], publish)
    os._exit(bool(serving.done()))  # at once, without waiting for connections


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    uvloop.run(main(sys.argv[1]))
