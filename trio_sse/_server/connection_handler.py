"""Requests and their answers on one transport, one after the other, until it is closed.

While a stream runs, the frames of its task are most of its memory. So what only receiving a request needs is
kept in functions that have returned by then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import final

import trio

from .._asgi.response_stream import PendingStream
from .._http.exceptions import HTTPException
from .._http.response import Response, encode_stream_head, error_response
from .._http.websocket_handshake import accept_head
from .._stream.closing import linger_if_unread
from .._stream.connection import Connection
from .._stream.lifecycle import Handle, run_stream
from .._stream.manager import StreamManager
from .._stream.padding import padding
from .._stream.polling import run_poll, wants_poll
from .._stream.scope import ServeScope
from .._transport.base import Transport, send_all
from .._wire.message import Framing
from .._wire.topic import TopicError
from .admission import Admission
from .app import AppHandler
from .request_reader import RequestReader, RoutedRequest
from .results import AfterResponse
from .routes import AppRoute, EndpointHandler, EndpointRoute, StreamRoute, WebSocketRoute

logger = logging.getLogger("trio_sse.server")


@final
class ConnectionHandler:
    """Answers requests."""

    def __init__(
        self, manager: StreamManager, reader: RequestReader, admission: Admission, app: AppHandler | None
    ) -> None:
        self.refused = 0  # requests that were answered with an error
        self._manager = manager
        self._reader = reader
        self._admission = admission
        self._app = app

    async def serve(self, transport: Transport, serving: ServeScope, buffer: bytearray | None = None) -> None:
        """Answer requests on a transport until it is done with, and close it.

        Nothing but cancellation leaves it: whatever goes wrong with one peer stays with that peer.
        """
        buffer = bytearray() if buffer is None else buffer
        task = trio.lowlevel.current_task()
        own_name = task.name
        after = AfterResponse.REUSE
        try:
            while after is AfterResponse.REUSE and not serving.is_draining:
                routed = await self._reader.read(transport, serving, buffer)
                if routed is None:
                    break
                if isinstance(routed.target, StreamRoute):
                    begun = await self._begin_stream(transport, serving, routed)
                    if isinstance(begun, AfterResponse):
                        after = AfterResponse.CLOSE if buffer else begun
                        continue
                    # Here and not in a coroutine of its own, whose frame each stream would keep for an hour.
                    connection, handle = begun
                    begun = AfterResponse.CLOSE
                    try:
                        outcome = await run_stream(serving, connection, handle)
                    finally:
                        self._admission.leave(transport)
                    after = await self._end_stream(transport, serving, routed, connection, outcome)
                    if buffer:
                        after = AfterResponse.CLOSE
                    del connection, handle, outcome, routed
                elif isinstance(routed.target, WebSocketRoute):
                    after = await self._websocket(transport, serving, routed, routed.target, buffer)
                else:
                    after = await self._answer(transport, serving, routed)
        except HTTPException as refusal:
            await self._refuse(transport, refusal)
        except trio.BrokenResourceError as error:
            logger.debug("peer=%s is gone: %s", transport.peer, error)
        except Exception:
            logger.exception("serving peer=%s failed", transport.peer)
        finally:
            try:
                if after is not AfterResponse.HANDED_OVER:
                    await transport.aclose(abort=transport.pending is not None)
            finally:
                task.name = own_name

    async def _answer(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest
    ) -> AfterResponse:
        """Answer by an endpoint, by the app or by a finished response, and not by a stream of a route."""
        answer = routed.target
        if isinstance(answer, EndpointRoute):
            response = await self._call(answer.handler, routed)
            return await self._reply(transport, serving, routed, response)
        if isinstance(answer, AppRoute):
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
        assert isinstance(answer, Response)
        return await self._reply(transport, serving, routed, answer)

    async def _begin_stream(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest
    ) -> tuple[Connection, Handle] | AfterResponse:
        """Return the stream that answers a request, admitted, and its handler.

        If the answer is not a stream, it is sent here.
        """
        request, route = routed.request, routed.target
        assert isinstance(route, StreamRoute)
        head = self._stream_head(routed)
        if request.method == "HEAD":
            await self._send(transport, head)
            return AfterResponse.reuse_if(routed.may_keep_alive)
        try:
            self._admission.check(transport, serving)
        except HTTPException as refusal:
            return await self._reply(transport, serving, routed, error_response(refusal))
        if wants_poll(request):
            return await self._poll(transport, serving, routed, route)
        transport.framing = Framing.CHUNKED if request.http_version == "1.1" else Framing.PLAIN
        head += padding(request, transport.framing)
        connection = Connection(serving, self._manager, transport, request, head)
        _name_task(route.handler)
        handle = partial(route.handler, **routed.parameters) if routed.parameters else route.handler
        self._admission.enter(transport)
        return connection, handle

    async def _poll(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, route: StreamRoute
    ) -> AfterResponse:
        """Answer with a portion of a stream's events."""
        _name_task(route.handler)
        self._admission.enter(transport)
        try:
            answer = await run_poll(
                serving,
                self._manager,
                routed.request,
                partial(route.handler, **routed.parameters),
                peer=transport.peer,
                discard=transport.discard_some,
            )
        except HTTPException as refusal:
            answer = refusal
        finally:
            self._admission.leave(transport)
        if answer is None:
            return AfterResponse.CLOSE
        if isinstance(answer, Exception):
            answer = error_response(self._as_refusal(answer, "handler", routed))
        after = await self._reply(transport, serving, routed, answer)
        return AfterResponse.CLOSE if transport.unread_bytes() else after

    async def _end_stream(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        connection: Connection,
        outcome: Exception | bool,
    ) -> AfterResponse:
        """Answer the request if its stream never began, and let a client read the end of one that did."""
        if isinstance(outcome, Exception):
            response = error_response(self._as_refusal(outcome, "handler", routed))
            return await self._reply(transport, serving, routed, response)
        if not outcome:
            await linger_if_unread(connection)
        return AfterResponse.reuse_if(outcome and routed.may_keep_alive)

    async def _websocket(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        route: WebSocketRoute,
        buffer: bytearray,
    ) -> AfterResponse:
        """Run a WebSocket, or refuse it."""
        request = routed.request
        try:
            if buffer:
                raise HTTPException(400, "a WebSocket's frames must wait for the answer to its handshake")
            route.handshake.check_origin(request.headers)
            self._admission.check(transport, serving)
        except HTTPException as refusal:
            response = error_response(refusal)
            after = await self._reply(transport, serving, routed, response)
            return AfterResponse.CLOSE if buffer else after
        subprotocol = route.handshake.subprotocol(request.headers)
        transport.framing = Framing.WEBSOCKET
        head = accept_head(request.headers, subprotocol)
        connection = Connection(serving, self._manager, transport, request, head)
        _name_task(route.handler)
        handler = partial(route.handler, **routed.parameters) if routed.parameters else route.handler
        self._admission.enter(transport)
        try:
            failure = await route.run(serving, connection, subprotocol, handler)
        finally:
            self._admission.leave(transport)
        if failure is not None:
            response = error_response(self._as_refusal(failure, "handler", routed))
            await self._reply(transport, serving, routed, response)
        return AfterResponse.CLOSE

    async def _run_detached_stream(
        self,
        transport: Transport,
        serving: ServeScope,
        buffer: bytearray,
        routed: RoutedRequest,
        pending: PendingStream,
        handle: Handle,
    ) -> None:
        """Run a stream that an app has started, and serve its transport's further requests afterwards."""
        connection = pending.connection
        outcome: Exception | bool | None = None
        after = AfterResponse.CLOSE
        self._admission.enter(transport)
        try:
            try:
                outcome = await run_stream(serving, connection, handle)
            finally:
                self._admission.leave(transport)
                pending.end(outcome)
            if pending.has_started:
                after = await self._end_stream(transport, serving, routed, connection, outcome)
                if buffer:
                    after = AfterResponse.CLOSE
        except trio.BrokenResourceError as error:
            logger.debug("peer=%s is gone: %s", transport.peer, error)
        finally:
            if pending.has_started and after is not AfterResponse.REUSE:
                await transport.aclose(abort=transport.pending is not None)
        if after is AfterResponse.REUSE:
            await self.serve(transport, serving, buffer)

    def _stream_head(self, routed: RoutedRequest) -> bytes:
        request, cross_origin = routed.request, self._reader.cross_origin
        fields = cross_origin.fields(request.headers.get("origin")) if cross_origin.is_set else {}
        if not routed.may_keep_alive:
            fields["Connection"] = "close"
        return encode_stream_head(fields, is_chunked=request.http_version == "1.1")

    async def _call(self, handler: EndpointHandler, routed: RoutedRequest) -> Response:
        _name_task(handler)
        try:
            response = await handler(routed.request, **routed.parameters)
            if not isinstance(response, Response):
                raise TypeError(f"an endpoint must return a Response, not {type(response).__name__}")
            return response
        except Exception as error:
            return error_response(self._as_refusal(error, "endpoint", routed))

    def _as_refusal(self, error: Exception, what: str, routed: RoutedRequest) -> HTTPException:
        """Give what to answer where a handler raised this; what is no refusal goes to the log."""
        if isinstance(error, HTTPException):
            return error
        if isinstance(error, TopicError):
            return HTTPException(400, str(error))
        path = routed.request.target.partition("?")[0]
        logger.error("%s failed for path=%.200s", what, path, exc_info=error)
        return HTTPException(500)

    async def _reply(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, response: Response
    ) -> AfterResponse:
        """Send a whole response."""
        request = routed.request
        may_keep_alive = routed.may_keep_alive and not serving.is_draining
        fields = self._reader.cross_origin.fields(request.headers.get("origin"))
        if not may_keep_alive:
            fields["Connection"] = "close"
        if response.status >= 400:
            self._note_refusal(transport, response.status, response.body)
        transport.framing = Framing.PLAIN
        await self._send(transport, response.encode(fields=fields, with_body=request.method != "HEAD"))
        return AfterResponse.reuse_if(may_keep_alive)

    async def _refuse(self, transport: Transport, refusal: HTTPException) -> None:
        """Answer what is no acceptable request. What follows it on the connection is never looked at."""
        self._note_refusal(transport, refusal.status, refusal.detail)
        try:
            response = error_response(refusal)
            await self._send(transport, response.encode(fields={"Connection": "close"}))
        except trio.BrokenResourceError:
            return
        await transport.linger()

    def _note_refusal(self, transport: Transport, status: int, detail: str | bytes) -> None:
        self.refused += 1
        text = detail if isinstance(detail, str) else "(bytes)"
        logger.info("refused peer=%s status=%d: %.200s", transport.peer, status, text.strip())

    async def _send(self, transport: Transport, payload: bytes) -> None:
        await send_all(transport, payload, write_timeout=self._manager.options.write_timeout)


def _name_task(handler: Callable[..., object]) -> None:
    """Name the task after what it runs, for the watchdog and whoever looks at the tasks.

    The name stays until the next request: what blocked is named when the step is over, and the handler has
    returned by then.
    """
    trio.lowlevel.current_task().name = getattr(handler, "__qualname__", repr(handler))
