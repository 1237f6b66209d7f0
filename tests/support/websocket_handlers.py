"""Handlers of WebSockets, and what is seen of their ends."""

from __future__ import annotations

import trio
import trio.testing

from trio_sse import EndReason, Server
from trio_sse.websocket import WebSocketConnection


async def idle(websocket: WebSocketConnection) -> None:
    await websocket.start()
    await trio.sleep_forever()


async def news(websocket: WebSocketConnection) -> None:
    await websocket.subscribe("news")


class Ends:
    """Notes the reasons by which the streams of a server end."""

    def __init__(self, server: Server) -> None:
        self.reasons: list[EndReason | None] = []
        server.on_disconnect(lambda connection: self.reasons.append(connection.end_reason))
