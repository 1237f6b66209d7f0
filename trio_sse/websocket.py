"""WebSockets on a `trio_sse.Server`: the same topics, ids and replay, in both directions.

::

    @server.websocket("/ws")
    async def ws(websocket: WebSocketConnection) -> None:
        async for message in websocket:
            await websocket.send_text(f"you said {message!r}")

    @server.websocket("/topics")
    async def topics(websocket: WebSocketConnection) -> None:
        await serve_topics(websocket, topics={"news"}, publish=may_publish)
"""

from __future__ import annotations

from ._http.websocket_handshake import SUBPROTOCOL
from ._module_metadata import set_public_module
from ._websocket.connection import WebSocketConnection
from ._websocket.subprotocol import Allowed, serve_topics

__all__ = ["SUBPROTOCOL", "Allowed", "WebSocketConnection", "serve_topics"]

set_public_module(globals())
