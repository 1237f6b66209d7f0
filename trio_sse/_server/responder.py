"""Sending whole responses and refusals, and the heads of streams."""

from __future__ import annotations

from collections import Counter
from typing import final

import trio

from .._http.cors import CrossOrigin
from .._http.event_source import refusal_response
from .._http.exceptions import HTTPException
from .._http.request import NO_HEADERS, Headers
from .._http.response import Response, encode_response, encode_stream_head
from .._logger import get_logger
from .._request.access_log import log_request
from .._request.request_reader import RoutedRequest
from .._request.results import AfterResponse
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._transport.base import Transport, send_all
from .._wire.message import Framing
from .._wire.topic import TopicError

logger = get_logger("trio_sse.server")


@final
class Responder:
    """Answers requests with anything but a stream's body.

    Attributes:
        refused: how many requests were answered with an error, by its status.
    """

    def __init__(self, manager: StreamManager, cross_origin: CrossOrigin) -> None:
        self.refused: Counter[int] = Counter()
        self._manager = manager
        self._cross_origin = cross_origin

    async def reply(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        response: Response,
        *,
        refuses: bool = True,
    ) -> AfterResponse:
        """Send a whole response.

        Args:
            refuses: whether an error refuses the client; that of a health check tells it something.
        """
        request = routed.request
        may_keep_alive = routed.may_keep_alive and not serving.is_draining
        fields = self._cross_origin.fields(request.headers.get("origin"))
        if not may_keep_alive:
            fields["Connection"] = "close"
        if response.status >= 400 and refuses:
            self._note_refusal(transport, response.status, response.body)
        transport.framing = Framing.PLAIN
        payloads = encode_response(response, fields=fields, with_body=request.method != "HEAD")
        try:
            await self.send(transport, *payloads)
        except BaseException:
            log_request(routed.mark, transport, request, response.status, is_cut=True)
            raise
        log_request(routed.mark, transport, request, response.status)
        return AfterResponse.reuse_if(may_keep_alive)

    async def reply_to_failure(
        self,
        transport: Transport,
        serving: ServeScope,
        routed: RoutedRequest,
        failure: Exception,
        *,
        what: str = "handler",
    ) -> AfterResponse:
        """Send the response to a request whose handler raised an exception; log one that is not a refusal."""
        if isinstance(failure, HTTPException):
            refusal = failure
        elif isinstance(failure, TopicError):
            refusal = HTTPException(400, str(failure))
        else:
            refusal = HTTPException(500)
            path = routed.request.target.partition("?")[0]
            peer = transport.peer
            logger.error("the %s failed for path=%.200s peer=%s", what, path, peer, exc_info=failure)
        response = refusal_response(refusal, routed.request.headers)
        if response.status < 400 <= refusal.status:
            self._note_refusal(transport, refusal.status, refusal.detail)
        return await self.reply(transport, serving, routed, response)

    async def refuse(
        self,
        transport: Transport,
        serving: ServeScope,
        refusal: HTTPException,
        headers: Headers = NO_HEADERS,
    ) -> None:
        """Answer a request that is not acceptable. Nothing that follows it on the connection is read.

        Args:
            headers: the request's, if it could be parsed.
        """
        self._note_refusal(transport, refusal.status, refusal.detail)
        try:
            response = refusal_response(refusal, headers)
            has_body = not refusal.answers_head
            payloads = encode_response(response, fields={"Connection": "close"}, with_body=has_body)
            await self.send(transport, *payloads)
        except trio.BrokenResourceError:
            return
        await serving.linger(transport)

    def stream_head(self, routed: RoutedRequest) -> bytes:
        """Return the bytes of an event stream's head."""
        request = routed.request
        fields = self._cross_origin.fields(request.headers.get("origin")) if self._cross_origin.is_set else {}
        if not routed.may_keep_alive:
            fields["Connection"] = "close"
        return encode_stream_head(fields, is_chunked=request.http_version == "1.1")

    async def send(self, transport: Transport, *payloads: bytes) -> None:
        """Send bytes within the write timeout.

        Raises:
            trio.BrokenResourceError: the client has disconnected, or accepts nothing.
        """
        manager = self._manager
        await send_all(
            transport,
            *payloads,
            write_timeout=manager.options.write_timeout,
            counts=manager.pending_bytes,
        )

    def _note_refusal(self, transport: Transport, status: int, detail: str | bytes) -> None:
        self.refused[status] += 1
        text = detail if isinstance(detail, str) else "(bytes)"
        logger.info_often("refused peer=%s status=%d: %.200s", transport.peer, status, text.strip())
