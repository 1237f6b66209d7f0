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

from typing import final

import trio

from .._app.app import AppHandler
from .._app.call import Answered, AppCall, CallContext
from .._app.websocket import AppWebSockets
from .._asgi.response_stream import PendingStream
from .._http.exceptions import HTTPException
from .._http.request_head import RequestHead
from .._logger import get_logger
from .._request.access_log import log_request
from .._request.admission import Admission
from .._request.request_reader import RequestReader, RoutedRequest
from .._request.results import AfterResponse
from .._request.routes import AppRoute, AppWebSocketRoute, EndpointRoute, StreamRoute, WebSocketRoute
from .._stream.lifecycle import Handle, Refused, StreamOutcome, run_stream
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .endpoints import Endpoints
from .request_tasks import contain_failure
from .responder import Responder
from .stream_requests import StreamRequests
from .websocket_requests import WebSocketRequests

logger = get_logger("trio_sse.server")


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
        streams: StreamRequests,
        websockets: WebSocketRequests,
        endpoints: Endpoints,
    ) -> None:
        self._manager = manager
        self._reader = reader
        self._responder = responder
        self._admission = admission
        self._app = app
        self._app_websockets = app_websockets
        self._streams = streams
        self._websockets = websockets
        self._endpoints = endpoints
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
                    if buffer and isinstance(routed.destination, StreamRoute):
                        routed = routed._replace(may_keep_alive=False)  # what follows is never parsed
                    if isinstance(routed.destination, StreamRoute):
                        admitted = await self._streams.admit(
                            transport, serving, routed, routed.destination, has_called_app=has_called_app
                        )
                        if isinstance(admitted, AfterResponse):
                            after = admitted
                            continue
                        stream, handle, began_at = admitted
                        transport = stream.transport
                        manager = routed.destination.manager or self._manager
                        may_keep_alive = routed.may_keep_alive
                        del admitted, routed  # a stream does not need them
                        try:
                            outcome = await run_stream(manager, serving, stream, handle)
                        finally:
                            self._admission.leave(transport)
                        if isinstance(outcome, Refused) or outcome.may_reuse:
                            transport = transport.hand_over()
                        after = await self._streams.after_stream(
                            transport, serving, stream, outcome, began_at, may_keep_alive=may_keep_alive
                        )
                        del stream, handle, outcome
                    elif isinstance(routed.destination, WebSocketRoute):
                        after = await self._websockets.run(
                            transport, serving, routed, routed.destination, buffer
                        )
                    elif isinstance(routed.destination, AppRoute):
                        has_called_app = True
                        answered, following = await self._serve_app(transport, serving, routed, buffer)
                        after, transport, _ = answered
                    elif isinstance(routed.destination, AppWebSocketRoute):
                        has_called_app = True
                        after, transport, _ = await self._call_app_for_websocket(transport, serving, routed)
                    elif isinstance(routed.destination, EndpointRoute):
                        after = await self._endpoints.answer(
                            transport, serving, routed, routed.destination, buffer
                        )
                    else:
                        is_check = routed.destination.status == 503  # of the router's, only a health check
                        after = await self._responder.reply(
                            transport, serving, routed, routed.destination, refuses=not is_check
                        )
            except HTTPException as refusal:
                buffer.clear()
                await self._responder.refuse(transport, serving, refusal)
            except trio.BrokenResourceError as error:
                logger.debug("peer=%s has disconnected: %s", transport.peer, error)
            finally:
                await transport.aclose(abort=transport.pending is not None)
        except BaseException as failure:
            contain_failure(failure, transport)
        finally:
            task.name = own_name

    # Apps

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
        refusal.answers_head = routed.request.method == "HEAD"
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
            taken = await call.take_connection()
            if taken is None:
                return
            transport = taken
            after = await call.finish_response(transport)
        except BaseException as failure:
            contain_failure(failure, transport)
        finally:
            if after is not AfterResponse.REUSE:
                await transport.aclose(abort=transport.pending is not None)
        if after is AfterResponse.REUSE:
            await self.serve(transport, call.serving, call.buffer)

    # Streams

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
                    began_at = None if routed.mark is None else routed.mark.at
                    after = await self._streams.after_stream(
                        *(transport, serving, stream, outcome, began_at),
                        may_keep_alive=pending.may_keep_alive,
                    )
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
