"""A server whose workers hang at their start while there is a file that the environment names."""

from __future__ import annotations

import os
import sys
from typing import Any

import trio

from trio_sse import Request, Response, Server
from trio_sse._program import replacement

replacement._READY_SECONDS = 1.0

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
    """Tell which process answers."""
    return Response(f"{os.getpid()}")
