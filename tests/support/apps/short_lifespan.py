"""An ASGI app whose lifespan fails while it is served, as soon as somebody asks for that."""

from __future__ import annotations

from typing import Any

import trio

_fails = trio.Event()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request; one with the path `/fail` ends the lifespan."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await _fails.wait()
        raise ValueError("a task of the app has failed")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
    if scope["path"] == "/fail":
        _fails.set()
