"""Streams in apps on a server that is not ours (see `response_stream.py`).

The app's call stays until the stream is over, and the stream must be over before the call is. What it
writes to is the server's, and is released at that moment, whatever the handler still does.

Such a stream uses ASGI's `receive` and `send` alone. How its response ends is the business of a
`ResponseGuard` around the app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol, final

import trio

from .._generators import closing_generators
from .._groups import split_failure
from .._http.event_source import refusal_response
from .._http.exceptions import HTTPException
from .._http.request import Request
from .._logger import get_logger
from .._stream.closing import reconnect_hint
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Handle, Refused, StreamOutcome, run_stream
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.padding import padding
from .._stream.scope import ServeScope
from .._stream.writer import ResponseStart
from .client_disconnected import is_of_disconnect
from .request import request_of
from .response_guard import ResponseGuard, find_guard
from .response_stream import PendingState, PendingStream, begin_body
from .scope_object import ScopeObject
from .stream_slot import StreamSlot
from .transport import ASGITransport
from .types import Message, Receive, Scope, Send

logger = get_logger("trio_sse.stream")

#: Where a scope's `extensions` have the `DrainRegistry` of the server.
DRAIN_REGISTRY = "trio_sse.drain"

# A server of HTTP/1.1 that has received a further request does not read, and so notices no disconnect. If the
# response announces that the connection closes, it takes the further request for an error.
_CLOSE = (b"connection", b"close")

# How long the time to reconnect may take to be sent, to a client that reconnects anyway.
_HINT_SECONDS = 1.0


class DrainRegistry(Protocol):
    """What a server that is not ours has to end when it drains.

    Attributes:
        is_draining: it drains, and has looked for streams to end.
        waiting: the scopes of everything but streams and polls.
    """

    is_draining: bool
    waiting: set[trio.CancelScope]

    def check(self) -> None:
        """Raise an `HTTPException` if the server drains."""

    def enter(self, serving: ServeScope, guard: ResponseGuard | None) -> None:
        """Record that a request is answered with a stream or poll of this scope; raises what `check` does."""

    def forget(self, serving: ServeScope) -> None:
        """Forget a scope that has no more streams."""


def find_drain_registry(scope: Mapping[str, Any]) -> DrainRegistry | None:
    """Return the registry of the server that a scope comes from, if it has one."""
    registry: DrainRegistry | None = (scope.get("extensions") or {}).get(DRAIN_REGISTRY)
    return registry


def closing_fields(request: Request) -> list[tuple[bytes, bytes]]:
    """Return further header fields of a stream's response, on a server that is not ours."""
    return [_CLOSE] if request.http_version < "2" else []


def _end_response(guard: ResponseGuard | None, stream: LiveStream) -> bool:
    """Record how a response must end; return whether its end must not be sent."""
    start = stream.response_start
    if start is not None and not start.is_head_final:
        return False  # the app may still answer the request itself
    is_cut = stream.end_reason is not EndReason.FINISHED
    if guard is not None:
        guard.on_stream_end(is_cut=is_cut, end_seconds=stream.options.write_timeout)
    return is_cut and stream.request.http_version < "2"


def _refuse_held(guard: ResponseGuard | None, stream: LiveStream, error: Exception) -> bool:
    """Refuse a stream whose response's head middleware holds back; return whether that was possible."""
    if guard is None or not isinstance(error, HTTPException):
        return False
    return guard.refuse(refusal_response(error, stream.request.headers))


async def _refuse_late(guard: ResponseGuard | None, send: Send, stream: LiveStream, error: Exception) -> None:
    """Refuse a stream whose response has not begun, though the app has sent its head.

    If the server has the head, it cannot be taken back. But at a shutdown, the client learns when to
    reconnect.
    """
    if _refuse_held(guard, stream, error):
        return
    if not isinstance(error, HTTPException):
        peer = stream.transport.peer
        logger.error("the handler failed for id=%d peer=%s", stream.id, peer, exc_info=error)
    elif stream.end_reason is EndReason.SERVER_SHUTDOWN:
        with suppress(OSError), trio.move_on_after(_HINT_SECONDS):
            hint = reconnect_hint(stream.options)
            await send({"type": "http.response.body", "body": hint, "more_body": True})


@final
class ForeignStreamExtension(ScopeObject):
    """The `StreamExtension` of one request, with the `receive` and `send` that the app uses."""

    def __init__(
        self, serving: ServeScope, scope: Scope, receive: Receive, send: Send, guard: ResponseGuard
    ) -> None:
        self._serving = serving
        self._scope = scope
        self._receive = receive
        self._send = send
        self._guard = guard
        self._registry = find_drain_registry(scope)
        self._slot = StreamSlot.of(scope)
        self._disconnected = trio.Event()
        self._pending: PendingStream | None = None
        self._is_head_sent = False
        self._flushing = trio.CancelScope()
        self._stream_ended = trio.Event()

    @property
    def request(self) -> Request:
        return request_of(self._scope)

    @property
    def is_disconnected(self) -> bool:
        return self._disconnected.is_set()

    # What the app calls

    async def receive(self) -> Message:
        """Receive from the server, and note a disconnect."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._on_disconnect()
        return message

    def _on_disconnect(self) -> None:
        self._disconnected.set()
        if self._pending is not None and not self._pending.has_started:
            self._pending.abandon(EndReason.CLIENT_DISCONNECTED)

    async def send(self, message: Message) -> None:
        """Send to the server; add to the head of a stream that the connection will close."""
        if message["type"] == "http.response.start":
            self._is_head_sent = True
            if self._pending is not None and self._pending.state in (PendingState.READY, PendingState.ENDED):
                fields = [*message.get("headers", ()), *closing_fields(self._pending.stream.request)]
                message = {**message, "headers": fields}
        await self._send(message)

    # Its stream

    def _check(self) -> None:
        if self._registry is not None:
            self._registry.enter(self._serving, self._guard)

    @contextmanager
    def answering(self, manager: StreamManager) -> Iterator[ServeScope]:
        self._check()
        yield self._serving

    def watch_disconnect(self, on_disconnect: Callable[[], None]) -> None:
        self._guard.watch_disconnect(on_disconnect)

    def is_head_held(self) -> bool:
        return not self._guard.has_started

    def start_detached(self, manager: StreamManager, handle: Handle, name: str) -> PendingStream:
        self._check()
        self._slot.take()
        pending = self._pending = PendingStream()
        request = self.request
        if request.method != "GET":  # over HTTP/2, any request may have a body
            pending.awaits_body = self._guard.awaits_body
        transport = ASGITransport(
            self._send,
            self._disconnected.wait,
            request.peer,
            survives=self._guard.survives,
            is_disconnect=is_of_disconnect,
        )
        pending.stream = manager.new_stream(self._serving, transport, request, pending)
        self._guard.watch_disconnect(self._on_disconnect)
        self._serving.start_soon(self._run, manager, pending, transport, handle, name=name)
        return pending

    async def _run(
        self, manager: StreamManager, pending: PendingStream, transport: ASGITransport, handle: Handle
    ) -> None:
        outcome = None
        if self._registry is not None and self._registry.is_draining and pending.stream.is_resumable:
            pending.stream.end(EndReason.SERVER_SHUTDOWN)  # it was admitted just before
        try:
            outcome = await closing_generators(run_stream(manager, self._serving, pending.stream, handle))
        except BaseException as failure:  # in the app's nursery, it would end the hub and all streams
            passing, contained = split_failure(failure)
            if contained is not None:
                logger.error("the stream failed for id=%d", pending.stream.id, exc_info=contained)
            if passing is not None:
                raise passing from None
        finally:
            transport.release()
            pending.end(outcome)
            if self._is_head_sent and isinstance(outcome, Refused):
                _refuse_held(self._guard, pending.stream, outcome.error)
            self._stream_ended.set()
            self._flushing.cancel()

    def send_through(self, send: Send) -> None:
        """Do nothing: this has the app's `send`."""

    async def detach(self, pending: PendingStream) -> None:
        if not self._is_head_sent:
            raise RuntimeError("a stream can begin only where a response's head has just been sent")
        stream = pending.stream
        transport = stream.transport
        assert isinstance(transport, ASGITransport)
        try:
            try:
                with self._flushing:
                    await begin_body(self._send, self.is_head_held)
            except OSError as error:  # how ASGI servers report a disconnect
                if not is_of_disconnect(error):
                    raise
                self._disconnected.set()
                self.close()
            pending.start(padding(stream.request, transport.framing))
            await self._stream_ended.wait()
        finally:
            # If this was cancelled, the handler may live on for a moment.
            self.close()
            transport.release()
            _end_response(self._guard, stream)
        if not pending.has_started and isinstance(pending.outcome, Refused):
            await _refuse_late(self._guard, self._send, stream, pending.outcome.error)

    def close(self) -> None:
        """End the stream, because the app's call ends."""
        if self._pending is None:
            return
        if self.is_disconnected:
            self._pending.abandon(EndReason.CLIENT_DISCONNECTED)
        elif self._pending.has_started:
            self._pending.abandon(EndReason.SERVER_SHUTDOWN)
        else:
            self._pending.abandon(EndReason.REFUSED)


@final
class ForeignInlineStream:
    """The `InlineStream` of one request.

    It shares no keepalives and no watch for disconnects with other streams, so it has its own tasks.

    Attributes:
        is_cut: the end of the response must not be sent.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.is_cut = False
        self._receive = receive
        self._send = send
        self._guard = find_guard(scope)
        self._registry = find_drain_registry(scope)
        self._slot = StreamSlot.of(scope)
        self._started = trio.lowlevel.ParkingLot()
        self._is_over = False
        self._serving: ServeScope | None = None

    @property
    def watches_peer(self) -> bool:
        return False

    @property
    def has_head(self) -> bool:
        """Whether the server is known to have the response's head."""
        return self._guard is not None and self._guard.has_started

    def is_head_held(self) -> bool:
        return self._guard is not None and not self._guard.has_started

    def is_disconnect(self, error: OSError) -> bool:
        return self._guard is None or is_of_disconnect(error)

    def watch_disconnect(self, on_disconnect: Callable[[], None]) -> None:
        if self._guard is not None:
            self._guard.watch_disconnect(on_disconnect)

    def prepare_inline(
        self, manager: StreamManager, request: Request, response_start: ResponseStart
    ) -> LiveStream:
        serving = self._serving_for(manager)
        self._slot.take()
        transport = ASGITransport(
            self._send,
            self._wait_disconnected,
            request.peer,
            survives=self._guard is not None and self._guard.survives,
            is_disconnect=self.is_disconnect,
        )
        return manager.new_stream(serving, transport, request, response_start)

    @contextmanager
    def answering(self, manager: StreamManager) -> Iterator[ServeScope]:
        yield self._serving_for(manager)

    def _serving_for(self, manager: StreamManager) -> ServeScope:
        if self._serving is None:
            self._serving = manager.new_serve_scope(drain_timeout=manager.options.write_timeout)
            if self._registry is not None:
                self._registry.enter(self._serving, self._guard)
        return self._serving

    def close(self) -> None:
        """Forget the scope, because the app's call ends."""
        if self._registry is not None and self._serving is not None:
            self._registry.forget(self._serving)

    async def _wait_disconnected(self) -> None:
        with trio.CancelScope() as scope:
            self.watch_disconnect(scope.cancel)
            while (await self._receive())["type"] != "http.disconnect":
                pass

    def head_sent(self, stream: LiveStream) -> None:
        stream.set_head(padding(stream.request, stream.transport.framing))
        self._started.unpark_all()

    async def wait_started(self, stream: LiveStream) -> None:
        while stream.response_start is not None and not self._is_over:
            await self._started.park()

    async def run_inline(self, manager: StreamManager, stream: LiveStream, handle: Handle) -> StreamOutcome:
        serving = self._serving_for(manager)
        outcome: StreamOutcome | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serving.wait_cancelled)
                outcome = await run_stream(manager, serving, stream, handle)
                nursery.cancel_scope.cancel()
        finally:
            await stream.transport.aclose()
            if stream.response_start is not None:
                self._slot.give_back()
            self._is_over = True
            self._started.unpark_all()
            if not isinstance(outcome, Refused):
                self.is_cut = _end_response(self._guard, stream)
        return outcome

    async def refuse_late(self, stream: LiveStream, refusal: HTTPException) -> None:
        self.is_cut = _end_response(self._guard, stream)
        await _refuse_late(self._guard, self._send, stream, refusal)
