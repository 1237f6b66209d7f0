"""An ASGI app with its own hub, and a server that serves it."""

from __future__ import annotations

from typing import Any

from trio_sse import Hub, Server

hub = Hub()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve nothing."""


server = Server(app)
