"""Requests for our own WebSockets: the handshake, and the stream that follows it."""

from __future__ import annotations

from functools import partial
from typing import final

from .._http.exceptions import HTTPException
from .._http.websocket_handshake import accept_head
from .._request.admission import Admission
from .._request.request_reader import RoutedRequest
from .._request.results import AfterResponse
from .._request.routes import WebSocketRoute
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._stream.stream_kind import in_route
from .._transport.base import Transport
from .._wire.message import Framing
from .request_tasks import name_task
from .responder import Responder


@final
class WebSocketRequests:
    """Answers the requests that lead to the route of a WebSocket."""

    def __init__(self, manager: StreamManager, admission: Admission, responder: Responder) -> None:
        self._manager = manager
        self._admission = admission
        self._responder = responder

    async def run(
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
            if buffer:  # nobody can tell whether it is a request
                routed = routed._replace(may_keep_alive=False)
            return await self._responder.reply_to_failure(transport, serving, routed, refusal)
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
