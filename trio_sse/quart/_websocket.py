"""The subprotocol "trio-sse.v1" on a WebSocket of Quart's: its host parses and writes the frames.

What the hub delivers waits in the subscription's bounded queue while the client is slow, as for a stream; but
each event is encoded and sent for each client on its own, through the host.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NoReturn, final

import trio
from quart import abort, websocket
from quart.wrappers import Websocket

from .._asgi.foreign_server import REGISTRY, Registry
from .._http.exceptions import HTTPException
from .._http.request import Headers, find_last_event_id
from .._http.websocket_handshake import Handshake
from .._hub.hub import Hub
from .._hub.subscription import SlowConsumer, Subscription
from .._stream.closing import CLOSE_CODES
from .._stream.end_reason import EndReason
from .._stream.scope import ServeScope
from .._websocket.subprotocol import Allowed, serve_topics


async def serve_quart_websocket(
    hub: Hub,
    serving: ServeScope,
    *,
    topics: Allowed,
    publish: Allowed,
    handshake: Handshake,
    write_timeout: float,
) -> None:
    """Serve topics on the WebSocket of the view that runs, until it ends; see `QuartSSE.serve_topics`."""
    asked: Websocket = websocket._get_current_object()  # type: ignore[attr-defined]  # of a proxy
    headers = Headers([(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in asked.headers.items()])
    extensions: dict[str, Any] = asked.scope.get("extensions") or {}
    registry: Registry | None = extensions.get(REGISTRY)
    try:
        handshake.check_origin(headers)
        if registry is not None:
            registry.check()
    except HTTPException as refusal:
        abort(refusal.status, refusal.detail)
    await asked.accept(subprotocol=handshake.subprotocol(headers))
    socket = QuartSocket(
        asked, hub, find_last_event_id(headers, asked.query_string.decode("latin-1")), write_timeout
    )
    # Both end those that wait for a request, when they drain; a WebSocket that waits is ended by that, too.
    waiting = [serving.waiting, *([] if registry is None else [registry.waiting])]
    with socket.scope:
        for scopes in waiting:
            scopes.add(socket.scope)
        try:
            await serve_topics(socket, topics=topics, publish=publish)
        except Exception:
            # Quart logs it, but would have the host say 1000, which tells the client that all is said.
            with trio.move_on_after(write_timeout):
                await asked.close(CLOSE_CODES[EndReason.HANDLER_ERROR], EndReason.HANDLER_ERROR.value)
            raise
        finally:
            for scopes in waiting:
                scopes.discard(socket.scope)
    with trio.move_on_after(write_timeout):
        await asked.close(CLOSE_CODES[socket.end_reason], socket.end_reason.value)


@final
class QuartSocket:
    """A WebSocket of Quart's, as `serve_topics` takes it.

    Attributes:
        scope: of all that is done with it.
        end_reason: why it is to be closed, once the scope was cancelled.
    """

    def __init__(self, asked: Websocket, hub: Hub, last_event_id: str | None, write_timeout: float) -> None:
        self.hub = hub
        self.last_event_id = last_event_id
        self.scope = trio.CancelScope()
        self.end_reason = EndReason.SERVER_SHUTDOWN
        self._websocket = asked
        self._write_timeout = write_timeout
        self._turn = trio.Lock()

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self  # no generator: it would be left unfinished when what is done with a message fails

    async def __anext__(self) -> str | bytes:
        return await self._websocket.receive()

    async def send_json(self, value: object) -> None:
        """Send a value as a text message; a client that takes nothing for the write timeout ends it all."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        async with self._turn:
            with trio.move_on_after(self._write_timeout) as scope:
                await self._websocket.send(text)
        if scope.cancelled_caught:
            await self._end(EndReason.WRITE_TIMEOUT)

    async def forward(self, subscription: Subscription) -> None:
        """Send all events, until the hub ends or the client lags too far behind."""
        try:
            async for event in subscription:
                fields = {"id": event.id, "event": event.event, "retry": event.retry, "data": event.data}
                await self.send_json({name: value for name, value in fields.items() if value is not None})
        except SlowConsumer:
            await self._end(EndReason.SLOW_CONSUMER)
        await self._end(EndReason.SERVER_SHUTDOWN)

    async def _end(self, reason: EndReason) -> NoReturn:
        self.end_reason = reason
        self.scope.cancel()
        await trio.sleep_forever()
        raise AssertionError("the scope was left")
