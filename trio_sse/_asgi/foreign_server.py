"""Streams in apps on a server that is not ours (see `response_stream.py`).

The app's call stays until the stream is over, and the stream must be over before the call is. What it
writes to is the server's, and is released at that moment, whatever the handler still does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, final

import trio

from .._http.request import Request
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Handle, StreamOutcome, run_stream
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.padding import padding
from .._stream.scope import OpenStream, ServeScope
from .._stream.writer import ResponseStart
from . import hypercorn_direct
from .hypercorn_direct import HypercornTransport
from .request import request_of
from .response_stream import PendingStream
from .transport import ASGITransport
from .types import Message, Receive, Scope, Send

#: Where a scope's `extensions` have the `DrainRegistry` of the server.
DRAIN_REGISTRY = "trio_sse.drain"

BorrowedTransport = ASGITransport | HypercornTransport


class DrainRegistry(Protocol):
    """What a server that isn't ours has to end when it drains.

    Attributes:
        streams: the open streams.
        waiting: the scopes of everything else.
    """

    streams: dict[OpenStream, None]
    waiting: set[trio.CancelScope]

    def check(self) -> None:
        """Raise an `HTTPException` if no further stream may be opened."""

    def remove(self, stream: OpenStream) -> None:
        """Record that a stream has ended."""


def find_drain_registry(scope: Mapping[str, Any]) -> DrainRegistry | None:
    """Return the registry of the server that a scope comes from, if it has one."""
    registry: DrainRegistry | None = (scope.get("extensions") or {}).get(DRAIN_REGISTRY)
    return registry


def borrow_transport(
    scope: Scope, send: Send, disconnected: Callable[[], Awaitable[object]], peer: str
) -> BorrowedTransport:
    """Return the most direct way to a response's body that the server allows."""
    borrowed = hypercorn_direct.find_socket(send)
    if borrowed is None:
        return ASGITransport(hypercorn_direct.with_backpressure(send), disconnected, peer)
    client = scope.get("client")
    address = tuple(client) if client else peer
    return HypercornTransport(borrowed, address, disconnected, is_chunked=scope["http_version"] == "1.1")


async def truncate_response(stream: LiveStream, send: Send, *, is_disconnected: bool = False) -> bool:
    """Truncate the response of a stream that did not finish; return whether its end must not be sent."""
    if stream.end_reason is EndReason.FINISHED:
        return False
    if is_disconnected and stream.request.http_version >= "2":
        return True  # the server knows
    truncate = hypercorn_direct.find_truncate(send)
    if truncate is not None:
        await truncate()
        return True
    # Servers close an HTTP/1.1 connection whose response is incomplete. A stream of HTTP/2 would stay open.
    return stream.request.http_version < "2"


#: The requests under way on each of hypercorn's HTTP/2 connections.
Siblings = dict[object, "dict[ForeignStreamExtension, None]"]


@final
class ForeignStreamExtension:
    """The `StreamExtension` of one request, with the `receive` and `send` that the app uses."""

    def __init__(
        self, serving: ServeScope, siblings: Siblings, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._serving = serving
        self._scope = scope
        self._receive = receive
        self._send = send
        self._registry = find_drain_registry(scope)
        self._disconnected = trio.Event()
        self._receiving: trio.CancelScope | None = None
        self._siblings = siblings
        self._http2 = hypercorn_direct.find_http2(send)
        if self._http2 is not None:
            siblings.setdefault(self._http2, {})[self] = None
        self._pending: PendingStream | None = None
        self._is_head_sent = False
        self._is_truncated = False  # the end of the response must not be sent
        self._stream_ended = trio.Event()

    @property
    def request(self) -> Request:
        return request_of(self._scope)

    @property
    def serving(self) -> ServeScope:
        return self._serving

    # What the app calls

    async def receive(self) -> Message:
        """Receive from the server, and note a disconnect."""
        if not self._disconnected.is_set():
            with trio.CancelScope() as self._receiving:
                message = await self._receive()
                if message["type"] != "http.disconnect":
                    return message
            self._receiving = None
            self._disconnected.set()
            # Hypercorn may lose one stream of a closed connection, if the task that reports the disconnect to
            # all of them is cancelled.
            if self._http2 is not None and self._http2.closed:
                for sibling in self._siblings.get(self._http2, ()):
                    sibling.on_disconnect()
        return {"type": "http.disconnect"}

    def on_disconnect(self) -> None:
        """Record that the client has disconnected, where the server doesn't report it."""
        self._disconnected.set()
        hypercorn_direct.mark_closed(self._send)
        if self._receiving is not None:
            self._receiving.cancel()

    async def send(self, message: Message) -> None:
        """Send to the server, except for the end of a response that is truncated."""
        self._is_head_sent |= message["type"] == "http.response.start"
        if self._is_truncated:
            await trio.lowlevel.checkpoint()
        else:
            await self._send(message)

    # Its stream

    def start_detached(self, manager: StreamManager, handle: Handle, name: str) -> PendingStream:
        if self._pending is not None:
            raise RuntimeError("a request can be answered with one stream only")
        if self._registry is not None:
            self._registry.check()
        pending = self._pending = PendingStream()
        request = self.request
        transport = borrow_transport(self._scope, self._send, self._disconnected.wait, request.peer)
        pending.stream = manager.new_stream(self._serving, transport, request, pending)
        self._serving.connections.start_soon(self._run, manager, pending, transport, handle, name=name)
        return pending

    async def _run(
        self, manager: StreamManager, pending: PendingStream, transport: BorrowedTransport, handle: Handle
    ) -> None:
        stream, outcome = pending.stream, None
        if self._registry is not None:
            self._registry.streams[stream] = None
        try:
            outcome = await run_stream(manager, self._serving, stream, handle)
        finally:
            self._release(stream, transport)
            if self._registry is not None:
                self._registry.remove(stream)
            pending.end(outcome)
            self._stream_ended.set()

    def _release(self, stream: LiveStream, transport: BorrowedTransport) -> None:
        if isinstance(transport, HypercornTransport) and self._serving.disconnects is not None:
            self._serving.disconnects.remove(transport, stream)
        transport.release()

    async def detach(self, pending: PendingStream) -> None:
        if not self._is_head_sent:
            raise RuntimeError("a stream can begin only where a response's head has just been sent")
        stream = pending.stream
        transport = stream.transport
        assert isinstance(transport, BorrowedTransport)
        has_started = pending.start(padding(stream.request, transport.framing))
        if (
            has_started
            and isinstance(transport, HypercornTransport)
            and self._serving.disconnects is not None
        ):
            self._serving.disconnects.add(transport, stream)
        try:
            await self._stream_ended.wait()
        finally:
            # If this was cancelled, the handler may live on for a moment.
            self.close()
            self._release(stream, transport)
        is_disconnected = self._disconnected.is_set()
        self._is_truncated = await truncate_response(stream, self._send, is_disconnected=is_disconnected)

    def close(self) -> None:
        """End the stream, because the app's call ends."""
        if self._http2 is not None and (others := self._siblings.get(self._http2)) is not None:
            others.pop(self, None)
            if not others:
                del self._siblings[self._http2]
        if self._pending is None:
            return
        if self._disconnected.is_set():
            self._pending.abandon(EndReason.CLIENT_DISCONNECTED)
        elif self._pending.has_started:
            self._pending.abandon(EndReason.SERVER_SHUTDOWN)
        else:
            self._pending.abandon(EndReason.REFUSED)


@final
class ForeignInlineStream:
    """The `InlineStream` of one request.

    It shares no keepalives and no watch for disconnects with other streams, so it has tasks of its own.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._registry = find_drain_registry(scope)
        self._started = trio.lowlevel.ParkingLot()
        self._serving: ServeScope

    def prepare_inline(
        self, manager: StreamManager, request: Request, response_start: ResponseStart
    ) -> LiveStream:
        if self._registry is not None:
            self._registry.check()
        self._serving = self.serving_for(manager)
        transport = borrow_transport(self._scope, self._send, self._wait_disconnected, request.peer)
        return manager.new_stream(self._serving, transport, request, response_start)

    def serving_for(self, manager: StreamManager) -> ServeScope:
        return manager.new_serve_scope(drain_timeout=manager.options.write_timeout)

    async def _wait_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def head_sent(self, stream: LiveStream) -> None:
        stream.set_head(padding(stream.request, stream.transport.framing))
        self._started.unpark_all()

    async def wait_started(self, stream: LiveStream) -> None:
        while stream.response_start is not None:
            await self._started.park()

    async def run_inline(self, manager: StreamManager, stream: LiveStream, handle: Handle) -> StreamOutcome:
        if self._registry is not None:
            self._registry.streams[stream] = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serving.wait_cancelled)
                outcome = await run_stream(manager, self._serving, stream, handle)
                nursery.cancel_scope.cancel()
        finally:
            await stream.transport.aclose()
            if self._registry is not None:
                self._registry.remove(stream)
        return outcome

    async def truncate(self, stream: LiveStream) -> bool:
        """Truncate the response if its stream did not finish; return whether its end must not be sent."""
        return await truncate_response(stream, self._send)
