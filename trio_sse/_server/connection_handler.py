"""Serving the requests of one connection, one after the other, until it is closed.

Invariants:

- A transport has one owner at a time. `serve` owns it, and closes it, unless the app's stream has taken it
  over (`AfterResponse.HANDED_OVER`): then `_run_detached_stream` does, in another task.
- A stream is counted by the admission exactly from before its handler runs until after it has ended.
- While a stream runs, the frames of its task are most of its memory. So `serve` awaits `run_stream` itself,
  and everything else happens in functions that have returned by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, final

import trio

from .._asgi.response_stream import PendingStream
from .._http.exceptions import HTTPException
from .._http.response import Response
from .._http.websocket_handshake import accept_head
from .._stream.closing import linger_if_unread
from .._stream.lifecycle import Handle, Refused, StreamOutcome, run_stream
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.padding import padding
from .._stream.polling import run_poll, wants_poll
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .._wire.message import Framing
from .admission import Admission
from .app import AppHandler
from .request_reader import RequestReader, RoutedRequest
from .responder import Responder
from .results import AfterResponse
from .routes import AppRoute, EndpointRoute, StreamRoute, WebSocketRoute

logger = logging.getLogger("trio_sse.server")


class _AdmittedStream(NamedTuple):
    """A stream that is about to run."""

    stream: LiveStream
    handle: Handle


@final
class ConnectionHandler:
    """Serves connections."""

    def __init__(
        self,
        manager: StreamManager,
        reader: RequestReader,
        responder: Responder,
        admission: Admission,
        app: AppHandler | None,
    ) -> None:
        self._manager = manager
        self._reader = reader
        self._responder = responder
        self._admission = admission
        self._app = app

    async def serve(self, transport: Transport, serving: ServeScope, buffer: bytearray | None = None) -> None:
        """Serve the requests of a transport until it must be closed, and close it.

        It raises nothing but `trio.Cancelled`: whatever goes wrong with one client affects no other.

        Args:
            buffer: bytes that were already read from the transport.
        """
        buffer = bytearray() if buffer is None else buffer
        task = trio.lowlevel.current_task()
        own_name = task.name
        after = AfterResponse.REUSE
        try:
            while after is AfterResponse.REUSE:
                routed = await self._reader.read(transport, serving, buffer)
                if routed is None:
                    break
                if isinstance(routed.destination, StreamRoute):
                    admitted = await self._admit_stream(transport, serving, routed, routed.destination)
                    if isinstance(admitted, AfterResponse):
                        after = AfterResponse.CLOSE if buffer else admitted
                        continue
                    stream, handle = admitted
                    del admitted
                    try:
                        outcome = await run_stream(self._manager, serving, stream, handle)
                    finally:
                        self._admission.leave(transport)
                    after = await self._after_stream(transport, serving, routed, stream, outcome)
                    if buffer:
                        after = AfterResponse.CLOSE
                    del stream, handle, outcome, routed
                elif isinstance(routed.destination, WebSocketRoute):
                    after = await self._run_websocket(transport, serving, routed, routed.destination, buffer)
                else:
                    after = await self._respond(transport, serving, routed)
        except HTTPException as refusal:
            await self._responder.refuse(transport, serving, refusal)
        except trio.BrokenResourceError as error:
            logger.debug("peer=%s has disconnected: %s", transport.peer, error)
        except Exception:
            logger.exception("serving peer=%s failed", transport.peer)
        finally:
            try:
                if after is not AfterResponse.HANDED_OVER:
                    await transport.aclose(abort=transport.pending is not None)
            finally:
                task.name = own_name

    # Whole responses

    async def _respond(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest
    ) -> AfterResponse:
        """Answer a request that leads to an endpoint, to the app, or to a finished response."""
        destination = routed.destination
        if isinstance(destination, EndpointRoute):
            return await self._call_endpoint(transport, serving, routed, destination)
        if isinstance(destination, AppRoute):
            assert self._app is not None
            assert routed.app_body is not None
            return await self._app.answer(
                transport,
                serving,
                routed,
                routed.app_body,
                write_timeout=self._manager.options.write_timeout,
                resume_serving=self._run_detached_stream,
            )
        assert isinstance(destination, Response)
        return await self._responder.reply(transport, serving, routed, destination)

    async def _call_endpoint(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, route: EndpointRoute
    ) -> AfterResponse:
        _name_task(route.handler)
        try:
            response = await route.handler(routed.request, **routed.parameters)
            if not isinstance(response, Response):
                raise TypeError(f"an endpoint must return a Response, not {type(response).__name__}")
        except Exception as error:
            return await self._responder.reply_to_failure(transport, serving, routed, error, what="endpoint")
        return await self._responder.reply(transport, serving, routed, response)

    # Streams

    async def _admit_stream(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, route: StreamRoute
    ) -> _AdmittedStream | AfterResponse:
        """Return the stream that answers a request; if the answer is anything else, send that instead."""
        request = routed.request
        head = self._responder.stream_head(routed)
        if request.method == "HEAD":
            await self._responder.send(transport, head)
            return AfterResponse.reuse_if(routed.may_keep_alive)
        try:
            self._admission.check(transport, serving)
        except HTTPException as refusal:
            return await self._responder.reply_to_failure(transport, serving, routed, refusal)
        if wants_poll(request):
            return await self._poll(transport, serving, routed, route)
        transport.framing = Framing.CHUNKED if request.http_version == "1.1" else Framing.PLAIN
        head += padding(request, transport.framing)
        stream = self._manager.new_stream(serving, transport, request, head)
        _name_task(route.handler)
        handle = partial(route.handler, **routed.parameters) if routed.parameters else route.handler
        self._admission.enter(transport)
        return _AdmittedStream(stream, handle)

    async def _poll(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, route: StreamRoute
    ) -> AfterResponse:
        """Answer with a batch of a stream's events (long polling)."""
        _name_task(route.handler)
        self._admission.enter(transport)
        try:
            answer = await run_poll(
                self._manager,
                serving,
                routed.request,
                partial(route.handler, **routed.parameters),
                peer=transport.peer,
                discard=transport.discard_some,
            )
        except HTTPException as refusal:
            answer = Refused(refusal)
        finally:
            self._admission.leave(transport)
        if answer is None:
            return AfterResponse.CLOSE
        if isinstance(answer, Refused):
            after = await self._responder.reply_to_failure(transport, serving, routed, answer.error)
        else:
            after = await self._responder.reply(transport, serving, routed, answer)
        return AfterResponse.CLOSE if transport.unread_bytes() else after

    async def _after_stream(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        stream: LiveStream,
        outcome: StreamOutcome,
    ) -> AfterResponse:
        """Answer the request if its stream never started, and let the client read the end of one that did."""
        if isinstance(outcome, Refused):
            return await self._responder.reply_to_failure(transport, serving, routed, outcome.error)
        if not outcome.may_reuse:
            await linger_if_unread(serving, stream)
        return AfterResponse.reuse_if(outcome.may_reuse and routed.may_keep_alive)

    async def _run_detached_stream(
        self,
        transport: Transport,
        serving: ServeScope,
        buffer: bytearray,
        routed: RoutedRequest,
        manager: StreamManager,
        pending: PendingStream,
        handle: Handle,
    ) -> None:
        """Run a stream that an app has started, and serve its transport's further requests afterwards."""
        stream = pending.stream
        outcome: StreamOutcome | None = None
        after = AfterResponse.CLOSE
        self._admission.enter(transport)
        try:
            try:
                outcome = await run_stream(manager, serving, stream, handle)
            finally:
                self._admission.leave(transport)
                pending.end(outcome)
            if pending.has_started:
                after = await self._after_stream(transport, serving, routed, stream, outcome)
                if buffer:
                    after = AfterResponse.CLOSE
        except trio.BrokenResourceError as error:
            logger.debug("peer=%s has disconnected: %s", transport.peer, error)
        finally:
            if pending.has_started and after is not AfterResponse.REUSE:
                await transport.aclose(abort=transport.pending is not None)
        if after is AfterResponse.REUSE:
            await self.serve(transport, serving, buffer)

    # WebSockets

    async def _run_websocket(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        route: WebSocketRoute,
        buffer: bytearray,
    ) -> AfterResponse:
        """Run a WebSocket, or refuse its handshake."""
        request = routed.request
        try:
            if buffer:
                raise HTTPException(400, "a WebSocket's frames must not precede the answer to its handshake")
            route.handshake.check_origin(request.headers)
            self._admission.check(transport, serving)
        except HTTPException as refusal:
            after = await self._responder.reply_to_failure(transport, serving, routed, refusal)
            return AfterResponse.CLOSE if buffer else after
        subprotocol = route.handshake.subprotocol(request.headers)
        transport.framing = Framing.WEBSOCKET
        head = accept_head(request.headers, subprotocol)
        stream = self._manager.new_stream(serving, transport, request, head)
        _name_task(route.handler)
        handler = partial(route.handler, **routed.parameters) if routed.parameters else route.handler
        self._admission.enter(transport)
        try:
            refused = await route.run(self._manager, serving, stream, subprotocol, handler)
        finally:
            self._admission.leave(transport)
        if refused is not None:
            await self._responder.reply_to_failure(transport, serving, routed, refused.error)
        return AfterResponse.CLOSE


def _name_task(handler: Callable[..., object]) -> None:
    """Name the task after its handler, for the watchdog and for tools that list tasks.

    The name stays until the next request, as the watchdog looks after a step: by then the handler may have
    returned.
    """
    trio.lowlevel.current_task().name = getattr(handler, "__qualname__", repr(handler))
