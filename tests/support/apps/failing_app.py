"""An ASGI app whose startup fails while there is a file that the environment names."""

from __future__ import annotations

import os
from typing import Any

import trio


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with the process's id."""
    if scope["type"] == "lifespan":
        await receive()
        if await trio.Path(os.environ["FAIL"]).exists():
            await send({"type": "lifespan.startup.failed", "message": "the database is down"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
