"""Calling endpoints: functions that answer a request with a whole response.

An endpoint counts as an open stream while it works. It is cancelled when it takes too long, and when its
client disconnects.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

import trio

from .._generators import closing_generators
from .._groups import as_exception, split_failure
from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.response import Response, encode_body
from .._hub.tracing import RequestSpan
from .._logger import get_logger
from .._request.access_log import log_request
from .._request.admission import Admission
from .._request.request_disconnects import RequestDisconnectWatcher
from .._request.request_reader import RoutedRequest
from .._request.results import AfterResponse
from .._request.routes import EndpointRoute
from .._stream.lifecycle import Refused
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._stream.tracing import status_of
from .._transport.base import Transport
from .._transport.losses import TOO_MUCH_PENDING
from .._transport.response_room import ResponsePlace
from .request_tasks import name_task
from .responder import Responder

logger = get_logger("trio_sse.server")

# To encode a shorter one when it is sent is quicker than to copy the response.
_SHORT_TEXT = 16 * 1024


@final
class Endpoints:
    """Calls the endpoints of a server.

    Args:
        timeout: how long one may take, in seconds.
    """

    def __init__(
        self, manager: StreamManager, admission: Admission, responder: Responder, timeout: float
    ) -> None:
        self._manager = manager
        self._admission = admission
        self._responder = responder
        self._request_timeout = timeout

    async def answer(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        route: EndpointRoute,
        buffer: bytearray,
    ) -> AfterResponse:
        """Call the endpoint of a request, and send its response."""
        try:
            if not route.is_exempt:
                self._admission.check_room(transport)
        except HTTPException as refusal:
            return await self._responder.reply_to_failure(transport, serving, routed, refusal)
        place = ResponsePlace(self._manager.response_room, route.path, transport)
        span = None if route.is_exempt else self._begin_span(transport, serving, routed, route)
        answer: Response | Refused | None = None
        try:
            answer = await self._call_counted(transport, routed, route, buffer, place)
            place.begin_sending()
            return await self._reply(transport, serving, routed, answer)
        finally:
            place.release()
            if span is not None:
                _end_span(span, answer)

    async def _reply(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        answer: Response | Refused | None,
    ) -> AfterResponse:
        if answer is None:
            log_request(routed.mark, transport, routed.request, None)
            return AfterResponse.CLOSE
        if isinstance(answer, Refused):
            return await self._responder.reply_to_failure(
                transport, serving, routed, answer.error, what="endpoint"
            )
        return await self._responder.reply(transport, serving, routed, answer)

    async def _call_counted(
        self,
        transport: Transport,
        routed: RoutedRequest,
        route: EndpointRoute,
        buffer: bytearray,
        place: ResponsePlace,
    ) -> Response | Refused | None:
        self._admission.enter(transport)
        self._admission.endpoints += 1
        try:
            return await self._call(transport, routed, route, buffer, place)
        finally:
            self._admission.endpoints -= 1
            self._admission.leave(transport)

    def _begin_span(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, route: EndpointRoute
    ) -> RequestSpan | None:
        tracing = self._manager.tracing
        if tracing is None:
            return None
        return tracing.begin_request(
            routed.request,
            route=route.path,
            attributes={"url.scheme": "https" if transport.is_secure else "http"},
            run_outside=serving.run_in_clean_context,
        )

    async def _call(
        self,
        transport: Transport,
        routed: RoutedRequest,
        route: EndpointRoute,
        buffer: bytearray,
        place: ResponsePlace,
    ) -> Response | Refused | None:
        """Call an endpoint, which is cancelled when it takes too long, or when its client disconnects.

        Before that, wait for room for its response. This is part of the time that it may take.

        Return `None` after a disconnect.
        """
        name_task(route.handler)
        scope = trio.CancelScope(deadline=trio.current_time() + self._request_timeout)
        watcher = RequestDisconnectWatcher(transport, buffer, scope.cancel)

        async def call() -> Response | Refused | None:
            try:
                with scope:
                    if not route.is_exempt and place.must_wait():
                        await place.wait()
                    response = await closing_generators(route.handler(routed.request, **routed.parameters))
                    if not isinstance(response, Response):
                        raise TypeError(f"an endpoint must return a Response, not {type(response).__name__}")
                    if not isinstance(response.body, str | bytes):
                        kind = type(response.body).__name__
                        raise TypeError(f"a response's body must be text or bytes, not {kind}")
                    response = _as_bytes(response)
                    if route.is_exempt or routed.request.method == "HEAD" or place.take(response.body):
                        return response
                    return Refused(TemporaryRefusal(503, TOO_MUCH_PENDING))
            except BaseException as failure:
                passing, contained = split_failure(failure)
                try:
                    if passing is not None:
                        raise passing from None
                    assert contained is not None
                    return Refused(as_exception(contained))
                finally:
                    del passing, contained  # this frame and the exception must not refer to one another
            return None

        answer = await watcher.run(call)
        if answer is not None or watcher.is_disconnected:
            return answer
        path = routed.request.target.partition("?")[0]
        logger.warning("the endpoint of path=%.200s took longer than %g s", path, self._request_timeout)
        return Refused(HTTPException(503, "the request took too long"))


def _as_bytes(response: Response) -> Response:
    """Return a response that does not hold a long text beside the bytes that may wait for a slow client."""
    if isinstance(response.body, str) and len(response.body) > _SHORT_TEXT:
        return replace(response, body=encode_body(response))
    return response


def _end_span(span: RequestSpan, answer: Response | Refused | None) -> None:
    """End the span of a call; without an answer, the client has disconnected, or the call was cancelled."""
    if isinstance(answer, Refused):
        status = status_of(answer.error)
        span.end(status, type(answer.error).__name__ if status >= 500 else None, {})
    else:
        span.end(None if answer is None else answer.status, None, {})
