"""Requests for event streams, before and after `run_stream`: who is admitted, and what is answered instead.

HEAD and long polling run the same handlers, and are answered here.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, final

import trio

from .._http.exceptions import HTTPException
from .._http.response import Response, add_fields
from .._logger import get_logger
from .._request.access_log import log_request
from .._request.admission import Admission
from .._request.request_reader import RoutedRequest, routed_to_stream
from .._request.results import AfterResponse
from .._request.routes import StreamRoute
from .._stream.closing import linger_if_unread
from .._stream.head_request import StreamHead, run_head
from .._stream.lifecycle import Handle, Refused, StreamOutcome
from .._stream.live_stream import LiveStream
from .._stream.manager import StreamManager
from .._stream.padding import padding
from .._stream.polling import run_poll, wants_poll
from .._stream.scope import ServeScope
from .._stream.stream_kind import in_route
from .._transport.base import Transport
from .._wire.message import Framing
from .request_tasks import name_task
from .responder import Responder

logger = get_logger("trio_sse.server")


class AdmittedStream(NamedTuple):
    """A stream that is about to run, and when its request began, if the access log is on."""

    stream: LiveStream
    handle: Handle
    began_at: float | None


@final
class StreamRequests:
    """Answers the requests that lead to the route of a stream."""

    def __init__(self, manager: StreamManager, admission: Admission, responder: Responder) -> None:
        self._manager = manager
        self._admission = admission
        self._responder = responder

    async def admit(
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
            if route.manager is None:
                self._admission.check(transport, serving)
        except HTTPException as refusal:
            return await self._responder.reply_to_failure(transport, serving, routed, refusal)
        if request.method == "HEAD" or wants_poll(request):
            return await self._answer_soon(transport, serving, routed, route)
        name_task(route.handler)
        return self.begin(transport, serving, routed, route, has_called_app=has_called_app)

    def begin(
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
        stream = (route.manager or self._manager).new_stream(serving, transport, request, head)
        stream.kind = in_route(stream.kind, route.path, is_secure=stream.kind.is_secure)
        return AdmittedStream(stream, handle, None if routed.mark is None else routed.mark.at)

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
                route.manager or self._manager,
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
        return await self.answer_watched(transport, serving, routed, answer)

    async def answer_refused(
        self, transport: Transport, serving: ServeScope, routed: RoutedRequest, refused: Refused
    ) -> None:
        """Answer a request whose stream has never started, and close its transport."""
        try:
            await self.answer_watched(transport, serving, routed, refused)
        except trio.BrokenResourceError as error:
            logger.debug("peer=%s has disconnected: %s", transport.peer, error)
        finally:
            await transport.aclose(abort=transport.pending is not None)

    async def answer_watched(
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

    async def after_stream(
        self,
        transport: Transport,
        serving: ServeScope,
        stream: LiveStream,
        outcome: StreamOutcome,
        began_at: float | None,
        *,
        may_keep_alive: bool,
    ) -> AfterResponse:
        """Answer the request if its stream never started, and let the client read the end of one that did."""
        if isinstance(outcome, Refused):
            routed = routed_to_stream(stream.request, began_at, may_keep_alive=may_keep_alive)
            return await self.answer_watched(transport, serving, routed, outcome)
        if not outcome.may_reuse:
            await linger_if_unread(serving, stream)
        return AfterResponse.reuse_if(outcome.may_reuse and may_keep_alive)
