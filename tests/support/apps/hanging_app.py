"""A server whose workers hang at their start while there is a file that the environment names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import trio

from trio_sse import Request, Response, Server

server = Server()
_serve = server.serve_listeners


async def hang_or_serve(*arguments: Any, **options: Any) -> None:
    """Serve, unless the file is there."""
    if await trio.Path(os.environ["HANG"]).exists():
        print("hanging", file=sys.stderr, flush=True)
        await trio.sleep_forever()
    await _serve(*arguments, **options)


server.serve_listeners = hang_or_serve  # type: ignore[method-assign]  # of the test's own


@server.endpoint("/pid")
async def pid(request: Request) -> Response:
    """Report which process answers."""
    return Response(f"{os.getpid()}")


@server.endpoint("/block", methods=["POST"])
async def block(request: Request) -> Response:
    """Block the event loop until somebody opens the FIFO that the body names."""
    Path(request.body.decode()).read_text()  # noqa: ASYNC240  # that is the fault
    return Response("")
