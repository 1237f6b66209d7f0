"""The subprotocol "trio-sse.v1" on a WebSocket of Quart, whose server parses and writes the frames.

While the client is slow, what the hub delivers waits in the subscription's bounded queue, as for a stream.
But each event is encoded and sent for each client separately, through the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, final

import trio
from quart import abort, websocket

from .._asgi.foreign_server import DrainRegistry, find_drain_registry
from .._asgi.request import request_of
from .._groups import split_failure
from .._http.exceptions import HTTPException
from .._http.request import Headers, Request, find_last_event_id
from .._http.websocket_handshake import Handshake
from .._hub.hub import Hub, engine_of
from .._stream.closing import CLOSE_CODES
from .._stream.end_reason import EndReason
from .._stream.extras import check_expiry
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._subscription.feed import Feed
from .._subscription.subscription import SlowConsumer, Subscription, feed_of
from .._websocket.subprotocol import Allowed, serve_topics
from .._wire.identity import check_identity
from .._wire.json_text import compact_json
from ._listed_socket import ListedSocket


async def serve_quart_websocket(
    manager: StreamManager,
    serving: ServeScope,
    *,
    topics: Allowed,
    publish: Allowed,
    handshake: Handshake,
    identity: str | None,
    expires_at: float | None,
) -> None:
    """Serve topics on the WebSocket of the current view, until it ends; see `QuartSSE.serve_topics`."""
    if identity is not None:
        check_identity(identity)
    if expires_at is not None:
        check_expiry(expires_at)
    hub, write_timeout = manager.hub, manager.options.write_timeout
    headers = Headers(
        [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in websocket.headers.items()]
    )
    registry = find_drain_registry(websocket.scope)
    try:
        handshake.check_origin(headers)
        if registry is not None:
            registry.check()
    except HTTPException as refusal:
        abort(refusal.status, refusal.detail)
    await websocket.accept(subprotocol=handshake.subprotocol(headers))
    last_event_id = find_last_event_id(headers, websocket.query_string.decode("latin-1"))
    socket = QuartSocket(websocket.receive, websocket.send, hub, last_event_id, write_timeout)
    listed = ListedSocket(
        socket,
        next(serving.ids),
        _handshake_request(),
        route=_rule(),
        is_secure=websocket.scheme == "wss",
    )
    with (
        _traced(socket, serving),
        listed.listed(manager, identity=identity, expires_at=expires_at),
        socket.scope,
        _registered(socket.scope, [serving] if registry is None else [serving, registry]),
    ):
        try:
            await serve_topics(socket, topics=topics, publish=publish)
        except BaseException as failure:
            if split_failure(failure)[1] is not None:
                # Quart logs it, but the server would close with 1000, which is a normal end to the client.
                with trio.move_on_after(write_timeout):
                    await websocket.close(CLOSE_CODES[EndReason.HANDLER_ERROR], EndReason.HANDLER_ERROR.value)
            raise
    with trio.move_on_after(write_timeout):
        await websocket.close(CLOSE_CODES[socket.final_reason], socket.final_reason.value)


def _handshake_request() -> Request:
    return request_of({**websocket.scope, "method": "GET"})


def _rule() -> str | None:
    """Return the pattern of the current WebSocket's route."""
    return None if websocket.url_rule is None else websocket.url_rule.rule


@contextmanager
def _traced(socket: QuartSocket, serving: ServeScope) -> Iterator[None]:
    """Make a span of what the context does, if the hub is traced."""
    tracing = engine_of(socket.hub).tracing
    if tracing is None:
        yield
        return
    span = tracing.begin_request(
        _handshake_request(),
        route=_rule(),
        attributes={
            "url.scheme": "https" if websocket.scheme == "wss" else "http",
            "trio_sse.transport": "websocket",
        },
        run_outside=serving.run_in_clean_context,
    )
    error: str | None = EndReason.HANDLER_ERROR.value
    reason = EndReason.HANDLER_ERROR
    try:
        yield
        error, reason = None, socket.final_reason
    except BaseException as failure:
        if split_failure(failure)[1] is None:
            error, reason = None, EndReason.CLIENT_DISCONNECTED
        raise
    finally:
        span.end(101, error, {"trio_sse.end_reason": reason.value})


@contextmanager
def _registered(scope: trio.CancelScope, drains: Sequence[ServeScope | DrainRegistry]) -> Iterator[None]:
    """Add `scope` to those that a drain cancels: scopes that wait for a request, and so open WebSockets."""
    for drain in drains:
        drain.waiting.add(scope)
        if drain.is_draining:  # since the client was accepted
            scope.cancel()
    try:
        yield
    finally:
        for drain in drains:
            drain.waiting.discard(scope)


@final
class QuartSocket:
    """A WebSocket of Quart, as `serve_topics` takes it.

    Attributes:
        scope: of everything that is done with it.
        end_reason: why it is to be closed, if that is known; `None` while it is open.
        feed: what it forwards.
        events_sent, bytes_sent: what it has sent.
        written_at: when that was, in Trio's time.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[str | bytes]],
        send: Callable[[str], Awaitable[None]],
        hub: Hub,
        last_event_id: str | None,
        write_timeout: float,
    ) -> None:
        self.hub = hub
        self.last_event_id = last_event_id
        self.scope = trio.CancelScope()
        self.end_reason: EndReason | None = None
        self.feed: Feed | None = None
        self.events_sent = self.bytes_sent = 0
        self.written_at = trio.current_time()
        self._receive = receive
        self._send = send
        self._write_timeout = write_timeout
        self._send_lock = trio.Lock()

    @property
    def final_reason(self) -> EndReason:
        """Why it is to be closed, once the scope was cancelled."""
        return self.end_reason or EndReason.SERVER_SHUTDOWN

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self  # not a generator, which would stay suspended if the handling of a message fails

    async def __anext__(self) -> str | bytes:
        return await self._receive()

    async def send_json(self, value: object) -> None:
        """Send a value as a text message. If the client accepts nothing in time, end the WebSocket."""
        text = compact_json(value)
        async with self._send_lock:
            with trio.move_on_after(self._write_timeout) as scope:
                await self._send(text)
                self.bytes_sent += len(text.encode())
                self.written_at = trio.current_time()
        if scope.cancelled_caught:
            await self._end(EndReason.WRITE_TIMEOUT)

    async def forward(self, subscription: Subscription) -> None:
        """Send all events, until the hub ends or the client lags too far behind."""
        self.feed = feed_of(subscription)
        try:
            async for event in subscription:
                fields = {"id": event.id, "event": event.event, "retry": event.retry, "data": event.data}
                await self.send_json({name: value for name, value in fields.items() if value is not None})
                self.events_sent += 1
        except SlowConsumer:
            await self._end(EndReason.SLOW_CONSUMER)
        await self._end(EndReason.SERVER_SHUTDOWN)

    async def _end(self, reason: EndReason) -> NoReturn:
        self.end_reason = reason
        self.scope.cancel()
        await trio.sleep_forever()
        raise AssertionError("the scope was left")
