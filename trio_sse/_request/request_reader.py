"""Reading a request: its head, then its body, each within bounds of size and time.

Invariant: a request whose body was not read to its end is the last one on its connection. Nobody can tell
where the next one starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, final

import trio

from .._http.exceptions import HTTPException, TemporaryRefusal
from .._http.request import Request, make_request
from .._http.request_head import RequestHead, parse_head, take_head
from .._http.response import Response, error_response
from .._http.routing import NO_PARAMETERS
from .._stream.draining import DRAIN_GRACE_SECONDS
from .._stream.scope import ServeScope
from .._transport.arriving_bytes import ArrivingBytes
from .._transport.base import Transport
from .access_log import RequestMark, mark_request
from .body import BodyReader, NoBody, RequestBody, receive_body
from .options import RequestOptions
from .origins import OriginResolver
from .request_router import Destination, RequestRouter
from .routes import AppRoute, AppWebSocketRoute

HEAD_SECONDS = 10.0  # for the whole head


class RoutedRequest(NamedTuple):
    """A request, and what answers it.

    Attributes:
        destination: a route; or the response itself, if it needs no handler.
        parameters: the path's parameters, for the route's handler.
        may_keep_alive: whether the client may send another request on the connection.
        app_body: the body, if the app is to read it.
        mark: its beginning, if the access log is on.
    """

    request: Request
    destination: Destination
    parameters: Mapping[str, object]
    may_keep_alive: bool
    app_body: RequestBody | None
    mark: RequestMark | None = None


def routed_to_stream(request: Request, began_at: float | None, *, may_keep_alive: bool) -> RoutedRequest:
    """Return the request of a stream that has never started, to be answered; its route has been called.

    A stream keeps less than this while it runs.

    Args:
        began_at: when the request's head had arrived, if the access log is on.
    """
    mark = None if began_at is None else RequestMark(began_at, 0)  # the stream has counted from 0
    return RoutedRequest(request, Response(), NO_PARAMETERS, may_keep_alive, None, mark)


@final
class RequestReader:
    """Reads requests, and has them routed before their bodies are read.

    Args:
        arriving: counts and bounds what has arrived of bodies that a route receives whole.
    """

    def __init__(
        self,
        options: RequestOptions,
        router: RequestRouter,
        origins: OriginResolver | None,
        arriving: ArrivingBytes,
    ) -> None:
        self._arriving = arriving
        self._cross_origin = options.cross_origin
        self._options = options
        self._head_limits = options.head_limits
        self._router = router
        self._origins = origins
        self._is_logged = options.access_log

    async def read(
        self,
        transport: Transport,
        serving: ServeScope,
        buffer: bytearray,
        head: RequestHead | HTTPException | None = None,
    ) -> RoutedRequest | None:
        """Read a request, and leave in `buffer` what follows it; return `None` if there is none.

        While the server drains, only a request that has begun to arrive is read, or the first one on a new
        connection, whose client may have sent it already.

        Args:
            head: the request's head, or why it is refused, if it does not come as bytes.

        Raises:
            HTTPException: the request is refused; the connection must not carry another one.
            trio.BrokenResourceError: the client has disconnected.
        """
        if self._origins is not None:
            transport.origin = None  # it was the former request's
        if isinstance(head, HTTPException):
            raise head
        if head is None:
            head = await self._read_next_head(transport, serving, buffer)
        if head is None:
            return None
        routed = self.route(transport, buffer, head)
        if head.content_length == 0 or routed.app_body is not None:
            return routed
        body = await receive_body(
            self._body_reader(head, transport, buffer, is_for_app=False), self._arriving
        )
        return routed._replace(request=replace(routed.request, body=body))

    def route(self, transport: Transport, buffer: bytearray, head: RequestHead) -> RoutedRequest:
        """Return a request by its head, and what answers it. Its body is not read yet.

        Raises:
            HTTPException: the request is refused.
        """
        mark = mark_request(transport) if self._is_logged else None
        if self._origins is not None:
            head = self._origins.resolve(transport, head)
        destination, parameters, may_keep_alive = self._route(head)
        app_body: RequestBody | None = None
        if isinstance(destination, AppRoute | AppWebSocketRoute):
            if head.content_length == 0:
                app_body = NoBody(transport, buffer)
            else:
                app_body = self._body_reader(head, transport, buffer, is_for_app=True)
        request = make_request(
            head.method,
            head.target,
            head.target if head.target == head.path else head.path,  # share one string
            head.headers,
            head.http_version,
            transport.peer,
            b"",
        )
        return RoutedRequest(request, destination, parameters, may_keep_alive, app_body, mark)

    def _body_reader(
        self, head: RequestHead, transport: Transport, buffer: bytearray, *, is_for_app: bool
    ) -> BodyReader:
        return BodyReader(
            head,
            transport,
            buffer,
            self._options.max_body_size_of(is_for_app=is_for_app),
            timeout=self._options.body_timeout,
            is_bounded_in_all=not is_for_app,
        )

    def _route(self, head: RequestHead) -> tuple[Destination, Mapping[str, object], bool]:
        """Return what answers a request, the path's parameters, and whether the connection may be reused.

        Raises:
            HTTPException: the request is refused, and has a body, which stays unread.
        """
        try:
            destination, parameters = self._router.route(head)
        except HTTPException as error:
            error.answers_head = head.method == "HEAD"
            if head.content_length != 0:
                error.headers.update(self._cross_origin.fields(head.headers.get("origin")))
                raise
            # A wrong path or method is an honest mistake. After any other refusal, the client and the server
            # may disagree about what was sent.
            may_keep_alive = head.keeps_alive and error.status in (404, 405)
            return error_response(error), NO_PARAMETERS, may_keep_alive
        return destination, parameters, head.keeps_alive

    async def _read_next_head(
        self, transport: Transport, serving: ServeScope, buffer: bytearray
    ) -> RequestHead | None:
        has_waited = False
        if transport.bytes_sent and not (buffer or serving.is_draining):
            data = await serving.idle.receive(transport, self._options.keep_alive)
            if not (data or (data is None and serving.is_draining)):
                return None
            if data:
                if self._is_whole_head(data):
                    return parse_head(data[:-4], self._head_limits)
                buffer += data
                has_waited = True
        return await self._read_head(transport, serving, buffer, has_waited=has_waited)

    def _is_whole_head(self, data: bytes) -> bool:
        """Return whether bytes are a head without an empty line before it, and nothing else, as most are."""
        return (
            data.endswith(b"\r\n\r\n")
            and data.find(b"\r\n\r\n") == len(data) - 4
            and len(data) <= self._head_limits.size
            and not data.startswith(b"\r\n")
        )

    async def _read_head(
        self, transport: Transport, serving: ServeScope, buffer: bytearray, *, has_waited: bool
    ) -> RequestHead | None:
        may_be_empty_line = True
        is_hurried = False
        deadline = math.inf
        while True:
            if may_be_empty_line and len(buffer) >= 2:
                may_be_empty_line = False
                if buffer.startswith(b"\r\n"):  # one empty line before a request is ignored (RFC 9112, 2.2)
                    del buffer[:2]
            if buffer and (head := take_head(buffer, self._head_limits)) is not None:
                if transport.bytes_sent and not has_waited:
                    # A client that sends request after request must not block the event loop.
                    await trio.lowlevel.checkpoint()
                return head
            # A new client has often sent its whole request. One that has its answer has hardly sent the next.
            data = transport.receive_nowait() if buffer or not transport.bytes_sent else None
            if data is None:
                has_waited = True
                now = trio.current_time()
                deadline = min(deadline, now + HEAD_SECONDS)
                if serving.is_draining and not is_hurried:
                    if transport.bytes_sent and not (buffer or transport.unread_bytes()):
                        return None
                    is_hurried = True
                    deadline = min(deadline, now + DRAIN_GRACE_SECONDS)
                data = await self._wait_for_head(transport, serving, deadline)
            if data is None:
                if serving.is_draining and not is_hurried:
                    continue
                if not buffer:
                    return None
                if serving.is_draining:
                    raise TemporaryRefusal(503, "the server is shutting down")
                raise HTTPException(408, "the request's head did not arrive in time")
            if not data:
                return None
            buffer += data

    async def _wait_for_head(
        self, transport: Transport, serving: ServeScope, deadline: float
    ) -> bytes | None:
        """Wait for bytes of a head; return `None` at the deadline, or when the server drains."""
        with trio.CancelScope(deadline=deadline) as scope:
            serving.waiting.add(scope)
            try:
                return await transport.receive_some()
            finally:
                serving.waiting.discard(scope)
        return None
