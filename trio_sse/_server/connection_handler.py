"""Serving the requests of one connection, one after the other, until it is closed.

Invariants:

- A connection has one owner at a time, which closes it: `serve`, or the stream to which it hands its
  transport over. After a stream it takes the transport back, by a new handle, so that nobody who still knows
  the stream can touch the next request's bytes. An app's call may hand it over to a stream in another task,
  which `_run_detached_stream` runs.
- A stream is counted by the admission exactly from before its handler runs until after it has ended.
- While a stream runs, the frames of its task are most of its memory. So `serve` awaits `run_stream` itself,
  and everything else happens in functions that have returned by then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, final

import trio

from .._app.app import AppHandler
from .._app.app_call import Answered, AppCall, CallContext
from .._app.app_websocket import AppWebSockets
from .._asgi.response_stream import PendingStream
from .._groups import as_exception, split_failure
from .._http.exceptions import HTTPException
from .._http.request_head import RequestHead
from .._http.response import Response, add_fields
from .._http.websocket_handshake import accept_head
from .._logger import get_logger
from .._request.access_log import RequestMark, log_request
from .._request.admission import Admission
from .._request.request_disconnects import RequestDisconnectWatcher
from .._request.request_reader import RequestReader, RoutedRequest
from .._request.results import AfterResponse
from .._request.routes import AppRoute, AppWebSocketRoute, EndpointRoute, StreamRoute, WebSocketRoute
from .._stream.closing import linger_if_unread
from .._stream.head_request import StreamHead, run_head
from .._stream.lifecycle import Handle, Refused, StreamOutcome, run_stream
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.padding import padding
from .._stream.polling import run_poll, wants_poll
from .._stream.scope import ServeScope
from .._stream.stream_kind import in_route
from .._transport.base import Transport
from .._wire.message import Framing
from .responder import Responder

logger = get_logger("trio_sse.server")


class AdmittedStream(NamedTuple):
    """A stream that is about to run, and the beginning of its request, if the access log is on."""

    stream: LiveStream
    handle: Handle
    mark: RequestMark | None


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
        app_websockets: AppWebSockets | None,
        *,
        request_timeout: float,
    ) -> None:
        self._manager = manager
        self._reader = reader
        self._responder = responder
        self._admission = admission
        self._app = app
        self._app_websockets = app_websockets
        self._request_timeout = request_timeout
        self._call_context = None if app is None else self._make_call_context(app)

    def _make_call_context(self, app: AppHandler) -> CallContext:
        return CallContext(
            self._admission,
            app.calls.recent,
            app.advice,
            self._manager.options.write_timeout,
            self._run_detached_stream,
            self._continue_serving,
        )

    async def serve(
        self,
        transport: Transport,
        serving: ServeScope,
        buffer: bytearray | None = None,
        head: RequestHead | HTTPException | None = None,
    ) -> None:
        """Serve the requests of a transport until it must be closed, and close it.

        It raises only what must pass: whatever goes wrong with one client affects no other.

        Args:
            buffer: bytes that were already read from the transport.
            head: the first request's head, or why it is refused, if that does not come as bytes. The
                transport then carries one request only.
        """
        buffer = bytearray() if buffer is None else buffer
        task = trio.lowlevel.current_task()
        own_name = task.name
        after = AfterResponse.REUSE
        has_called_app = False
        following: RoutedRequest | None = None
        try:
            try:
                while after is AfterResponse.REUSE:
                    routed, following = following, None
                    if routed is None:
                        if transport.bytes_sent and not serving.has_clean_context:
                            await serving.clean_context()
                        routed = await self._reader.read(transport, serving, buffer, head)
                        head = None  # a stream does not need it
                        if routed is None:
                            break
                    if isinstance(routed.destination, StreamRoute):
                        admitted = await self._admit_stream(
                            transport, serving, routed, routed.destination, has_called_app=has_called_app
                        )
                        if isinstance(admitted, AfterResponse):
                            after = AfterResponse.CLOSE if buffer else admitted
                            continue
                        stream, handle, _ = admitted
                        transport = stream.transport
                        del admitted
                        try:
                            outcome = await run_stream(self._manager, serving, stream, handle)
                        finally:
                            self._admission.leave(transport)
                        if isinstance(outcome, Refused) or outcome.may_reuse:
                            transport = transport.hand_over()
                        after = await self._after_stream(transport, serving, routed, stream, outcome)
                        if buffer:
                            after = AfterResponse.CLOSE
                        del stream, handle, outcome, routed
                    elif isinstance(routed.destination, WebSocketRoute):
                        after = await self._run_websocket(
                            transport, serving, routed, routed.destination, buffer
                        )
                    elif isinstance(routed.destination, AppRoute):
                        has_called_app = True
                        answered, following = await self._serve_app(transport, serving, routed, buffer)
                        after, transport, _ = answered
                    elif isinstance(routed.destination, AppWebSocketRoute):
                        has_called_app = True
                        after, transport, _ = await self._call_app_for_websocket(transport, serving, routed)
                    else:
                        after = await self._respond(transport, serving, routed, buffer)
            except HTTPException as refusal:
                await self._responder.refuse(transport, serving, refusal)
            except trio.BrokenResourceError as error:
                logger.debug("peer=%s has disconnected: %s", transport.peer, error)
            finally:
                await transport.aclose(abort=transport.pending is not None)
        except BaseException as failure:
            contain_failure(failure, transport)
        finally:
            task.name = own_name

    # Whole responses

    async def _serve_app(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, buffer: bytearray
    ) -> tuple[Answered, RoutedRequest | None]:
        """Have the app answer a request, and those that follow it and are for the app.

        Return the answer to the last one, and the first request that is not for the app, if there is any.

        One scope serves for all calls: it is cancelled only where the client has disconnected, and then there
        is no further request.
        """
        app, context = self._app, self._call_context
        assert app is not None
        assert context is not None
        with trio.CancelScope() as scope:
            while True:
                try:
                    answered = await app.answer(context, transport, serving, routed, scope)
                except HTTPException as refusal:
                    answered = Answered(AfterResponse.CLOSE, transport, refusal)
                if answered.refusal is not None:
                    await self._refuse_for_app(serving, routed, answered, answered.refusal)
                if answered.after is AfterResponse.CLOSE or answered.transport is not transport:
                    return answered, None
                if not serving.has_clean_context:
                    await serving.clean_context()
                following = await self._reader.read(transport, serving, buffer)
                if following is None:
                    break
                if not isinstance(following.destination, AppRoute):
                    return answered, following
                routed = following
        return Answered(AfterResponse.CLOSE, transport), None

    async def _call_app_for_websocket(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest
    ) -> Answered:
        """Have the app answer a WebSocket's handshake, and run the WebSocket."""
        assert self._app_websockets is not None
        answered = await self._app_websockets.answer(transport, serving, routed)
        if answered.refusal is not None:
            await self._refuse_for_app(serving, routed, answered, answered.refusal)
        return answered

    async def _refuse_for_app(
        self, serving: ServeScope, routed: RoutedRequest, answered: Answered, refusal: HTTPException
    ) -> None:
        """Answer a request that the app has not answered."""
        try:
            await self._responder.refuse(answered.transport, serving, refusal, routed.request.headers)
        except BaseException:
            await answered.transport.aclose(abort=True)
            raise
        finally:
            log_request(routed.mark, answered.transport, routed.request, refusal.status)

    async def _continue_serving(self, call: AppCall) -> None:
        """Serve a connection further, whose app's call goes on after its response."""
        transport = call.transport
        after = AfterResponse.CLOSE
        try:
            transport = await call.take_connection()
            after = await call.finish_response(transport)
        except BaseException as failure:
            passing, contained = split_failure(failure)
            if contained is not None:
                logger.error("serving peer=%s failed", transport.peer, exc_info=contained)
            if passing is not None:
                raise passing from None
        finally:
            if after is not AfterResponse.REUSE:
                await transport.aclose(abort=transport.pending is not None)
        if after is AfterResponse.REUSE:
            await self.serve(transport, call.serving, call.buffer)

    async def _respond(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, buffer: bytearray
    ) -> AfterResponse:
        """Answer a request that leads to an endpoint or to a finished response."""
        destination = routed.destination
        if isinstance(destination, Response):
            return await self._responder.reply(transport, serving, routed, destination)
        assert isinstance(destination, EndpointRoute)
        try:
            self._admission.check_room(transport)
        except HTTPException as refusal:
            return await self._responder.reply_to_failure(transport, serving, routed, refusal)
        self._admission.enter(transport)
        self._admission.endpoints += 1
        try:
            answer = await self._call_endpoint(transport, routed, destination, buffer)
        finally:
            self._admission.endpoints -= 1
            self._admission.leave(transport)
        if answer is None:
            log_request(routed.mark, transport, routed.request, None)
            return AfterResponse.CLOSE
        if isinstance(answer, Refused):
            return await self._responder.reply_to_failure(
                transport, serving, routed, answer.error, what="endpoint"
            )
        return await self._responder.reply(transport, serving, routed, answer)

    async def _call_endpoint(
        self, transport: Transport, routed: RoutedRequest, route: EndpointRoute, buffer: bytearray
    ) -> Response | Refused | None:
        """Call an endpoint, which is cancelled when it takes too long, or when its client disconnects.

        Return `None` after a disconnect.
        """
        name_task(route.handler)
        scope = trio.CancelScope(deadline=trio.current_time() + self._request_timeout)
        watcher = RequestDisconnectWatcher(transport, buffer, scope.cancel)

        async def call() -> Response | Refused | None:
            try:
                with scope:
                    response = await route.handler(routed.request, **routed.parameters)
                    if not isinstance(response, Response):
                        raise TypeError(f"an endpoint must return a Response, not {type(response).__name__}")
                    if not isinstance(response.body, str | bytes):
                        kind = type(response.body).__name__
                        raise TypeError(f"a response's body must be text or bytes, not {kind}")
                    return response
            except BaseException as failure:
                passing, contained = split_failure(failure)
                if passing is not None:
                    raise passing from None
                assert contained is not None
                return Refused(as_exception(contained))
            return None

        answer = await watcher.run(call)
        if answer is not None or watcher.is_disconnected:
            return answer
        path = routed.request.target.partition("?")[0]
        logger.warning("the endpoint of path=%.200s took longer than %g s", path, self._request_timeout)
        return Refused(HTTPException(503, "the request took too long"))

    # Streams

    async def _admit_stream(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        route: StreamRoute,
        *,
        has_called_app: bool,
    ) -> AdmittedStream | AfterResponse:
        """Return the stream that answers a request; if the answer is anything else, send that instead.

        Args:
            has_called_app: an app has answered an earlier request, and may still know the transport.
        """
        request = routed.request
        try:
            self._admission.check(transport, serving)
        except HTTPException as refusal:
            return await self._responder.reply_to_failure(transport, serving, routed, refusal)
        if request.method == "HEAD" or wants_poll(request):
            return await self._answer_soon(transport, serving, routed, route)
        name_task(route.handler)
        return self.begin_stream(transport, serving, routed, route, has_called_app=has_called_app)

    def begin_stream(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        route: StreamRoute,
        *,
        has_called_app: bool = False,
    ) -> AdmittedStream:
        """Return the stream that answers a request, and count it."""
        request = routed.request
        transport.framing = Framing.CHUNKED if request.http_version == "1.1" else Framing.PLAIN
        head = self._responder.stream_head(routed) + padding(request, transport.framing)
        handle = partial(route.handler, **routed.parameters) if routed.parameters else route.handler
        self._admission.enter(transport)
        if has_called_app:
            transport = transport.hand_over()
        stream = self._manager.new_stream(serving, transport, request, head)
        stream.kind = in_route(stream.kind, route.path, is_secure=stream.kind.is_secure)
        return AdmittedStream(stream, handle, routed.mark)

    async def _answer_soon(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, route: StreamRoute
    ) -> AfterResponse:
        """Answer with a batch of a stream's events (long polling), or with its head alone."""
        name_task(route.handler)
        self._admission.enter(transport)
        run = run_poll if wants_poll(routed.request) else run_head
        answer: Response | StreamHead | Refused | None
        try:
            answer = await run(
                self._manager,
                serving,
                routed.request,
                partial(route.handler, **routed.parameters),
                peer=transport.peer,
                discard=transport.discard_some,
                route=route.path,
                is_secure=transport.is_secure,
            )
        except HTTPException as refusal:
            answer = Refused(refusal)
        finally:
            self._admission.leave(transport)
        if answer is None:
            log_request(routed.mark, transport, routed.request, None)
            return AfterResponse.CLOSE
        return await self._answer_watched(transport, serving, routed, answer)

    async def answer_refused(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, refused: Refused
    ) -> None:
        """Answer a request whose stream has never started, and close its transport."""
        try:
            await self._answer_watched(transport, serving, routed, refused)
        except trio.BrokenResourceError as error:
            logger.debug("peer=%s has disconnected: %s", transport.peer, error)
        finally:
            await transport.aclose(abort=transport.pending is not None)

    async def _answer_watched(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        answer: Response | StreamHead | Refused,
    ) -> AfterResponse:
        """Answer a request whose client was watched by reading.

        What it has sent meanwhile is not executed, and nobody can tell where its next request would begin.
        """
        has_unread = transport.unread_bytes() > 0  # what comes later is the next request
        if has_unread:
            routed = routed._replace(may_keep_alive=False)
        if isinstance(answer, Refused):
            after = await self._responder.reply_to_failure(transport, serving, routed, answer.error)
        elif isinstance(answer, StreamHead):
            await self._responder.send(
                transport, add_fields(self._responder.stream_head(routed), answer.fields)
            )
            log_request(routed.mark, transport, routed.request, 200)
            after = AfterResponse.reuse_if(routed.may_keep_alive)
        else:
            after = await self._responder.reply(transport, serving, routed, answer)
        if has_unread:
            await serving.linger(transport)
        return after

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
            return await self._answer_watched(transport, serving, routed, outcome)
        if not outcome.may_reuse:
            await linger_if_unread(serving, stream)
        return AfterResponse.reuse_if(outcome.may_reuse and routed.may_keep_alive)

    async def _run_detached_stream(
        self,
        serving: ServeScope,
        buffer: bytearray,
        routed: RoutedRequest,
        manager: StreamManager,
        pending: PendingStream,
        handle: Handle,
    ) -> None:
        """Run a stream that an app has started, and serve its transport's further requests afterwards."""
        stream = pending.stream
        transport = stream.transport
        outcome: StreamOutcome | None = None
        after = AfterResponse.CLOSE
        self._admission.enter(transport)
        try:
            try:
                try:
                    outcome = await run_stream(manager, serving, stream, handle)
                finally:
                    self._admission.leave(transport)
                    pending.end(outcome)
                    transport = (
                        stream.transport
                    )  # the app's call has handed it over, if the stream has started
                if pending.has_started:
                    if isinstance(outcome, Refused) or outcome.may_reuse:
                        transport = transport.hand_over()
                    announced = routed._replace(may_keep_alive=pending.may_keep_alive)
                    after = await self._after_stream(transport, serving, announced, stream, outcome)
                    if buffer:
                        after = AfterResponse.CLOSE
                    if routed.may_keep_alive and not pending.may_keep_alive:
                        await serving.linger(transport)  # the client may still send the request's body
            except trio.BrokenResourceError as error:
                logger.debug("peer=%s has disconnected: %s", transport.peer, error)
            finally:
                if after is not AfterResponse.REUSE:
                    await transport.aclose(abort=transport.pending is not None)
        except BaseException as failure:
            contain_failure(failure, transport)
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
        name_task(route.handler)
        handler = partial(route.handler, **routed.parameters) if routed.parameters else route.handler
        self._admission.enter(transport)
        stream = self._manager.new_stream(serving, transport.hand_over(), request, head)
        stream.kind = in_route(stream.kind, route.path, is_secure=stream.kind.is_secure)
        try:
            try:
                refused = await route.run(self._manager, serving, stream, subprotocol, handler)
            finally:
                self._admission.leave(transport)
            if refused is not None:
                await self._responder.reply_to_failure(stream.transport, serving, routed, refused.error)
        finally:
            await stream.transport.aclose(abort=stream.transport.pending is not None)
        return AfterResponse.CLOSE


def contain_failure(failure: BaseException, transport: Transport) -> None:
    """Log what went wrong with a connection; raise only what must pass; see `split_failure`."""
    passing, contained = split_failure(failure)
    if contained is not None:
        logger.error("serving peer=%s failed", transport.peer, exc_info=contained)
    if passing is not None:
        raise passing from None


def name_task(handler: Callable[..., object]) -> None:
    """Name the task after its handler, for the watchdog and for tools that list tasks.

    The name stays until the next request, as the watchdog looks after a step: by then the handler may have
    returned.
    """
    trio.lowlevel.current_task().name = getattr(handler, "__qualname__", repr(handler))
