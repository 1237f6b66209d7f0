"""A server whose workers can be caught at each moment of their lives."""

from __future__ import annotations

import os
import sys
from typing import Any

import trio

from trio_sse import Connection, Request, Response, Server

server = Server(drain_timeout=1)
_serve = server.serve_listeners


async def hang_or_serve(*arguments: Any, **options: Any) -> None:
    """Serve, but only after the file that the environment names has disappeared."""
    if await trio.Path(os.environ["HANG"]).exists():
        print("hanging", file=sys.stderr, flush=True)
        while await trio.Path(os.environ["HANG"]).exists():  # noqa: ASYNC110  # no event announces it
            await trio.sleep(0.05)
    await _serve(*arguments, **options)


server.serve_listeners = hang_or_serve  # type: ignore[method-assign]  # of the test's own


@server.endpoint("/pid")
async def pid(request: Request) -> Response:
    """Report which process answers."""
    return Response(f"{os.getpid()}")


@server.route("/stubborn")
async def stubborn(connection: Connection) -> None:
    """Report which process this is, and ignore requests to end."""
    await connection.send(os.getpid())
    try:
        await trio.sleep_forever()
    finally:
        print("begins to drain", file=sys.stderr, flush=True)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
