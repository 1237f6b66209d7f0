"""Receiving a request: its head, where it leads to, and its body, in this order, each within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import trio

from .._http.cors import CrossOrigin
from .._http.exceptions import HTTPException
from .._http.request import Headers, Request
from .._http.request_head import RequestHead, skip_empty_line, take_head
from .._http.response import Response, error_response, json_response
from .._http.routing import NO_PARAMETERS, Router
from .._http.websocket_handshake import Handshake, asks_for_websocket, check_handshake
from .._stream.connection import Connection
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .body import BodyReader, check_body, receive_body

HEAD_SECONDS = 10.0  # in all, however slowly it comes

StreamHandler = Callable[..., Awaitable[None]]
EndpointHandler = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """A path that answers with an event stream."""

    handler: StreamHandler


@dataclass(frozen=True, slots=True)
class EndpointRoute:
    """A path that answers with a whole response."""

    handler: EndpointHandler


@dataclass(frozen=True, slots=True)
class WebSocketRoute:
    """A path that is a WebSocket.

    Attributes:
        handshake: what it asks of a request.
        run: runs one, on a connection, with the subprotocol that was chosen and the handler, and returns what
            the handler raised if the handshake is to be answered with that.
    """

    handler: StreamHandler
    handshake: Handshake
    run: Callable[[ServeScope, Connection, str | None, StreamHandler], Awaitable[Exception | None]]


@dataclass(frozen=True, slots=True)
class AppRoute:
    """What answers all that no route takes; the body is left for the app to read.

    It is forgotten when a stream has taken the transport over.
    """

    body: BodyReader | None


Route = StreamRoute | EndpointRoute | WebSocketRoute


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptionOptions:
    """The options that concern requests; `Server` describes them."""

    max_body_size: int
    allowed_hosts: Collection[str] | None
    cross_origin: CrossOrigin
    health_path: str | None
    is_ready: Callable[[], bool]
    has_app: bool = False


class Received(NamedTuple):
    """A request that has come in whole, and what answers it.

    Attributes:
        answer: a route, or the response itself where no route is needed.
        parameters: the path's, for the route's handler.
        may_keep_alive: whether the client may send another request on the connection.
    """

    request: Request
    answer: Route | Response | AppRoute
    parameters: Mapping[str, object]
    may_keep_alive: bool


@final
class Reception:
    """Receives requests for the routes that were added."""

    def __init__(self, options: ReceptionOptions) -> None:
        self.router: Router[Route] = Router()
        self.options = options

    async def receive(self, transport: Transport, serving: ServeScope, buffer: bytearray) -> Received | None:
        """Receive a request, and leave in `buffer` what came after it; `None` if there is none to come.

        Raises:
            HTTPException: it is refused, and the connection is not to be used again.
            trio.BrokenResourceError: the peer is gone.
        """
        head = await self._receive_head(transport, serving, buffer)
        if head is None:
            return None
        body = b""
        may_keep_alive = head.keeps_alive
        parameters: Mapping[str, object] = NO_PARAMETERS
        answer: Route | Response | AppRoute | None
        headers = head.headers
        try:
            self._check(head)
            answer, parameters = self._find(head)
            _check_upgrade(head, headers, answer)
            check_body(head, self.options.max_body_size)
            if answer is not None and head.method in ("GET", "HEAD") and head.content_length != 0:
                raise HTTPException(400, f"a {head.method} request must not have a body")
        except HTTPException as error:
            if head.content_length != 0:
                error.headers.update(self.options.cross_origin.fields(headers.get("origin")))
                raise  # its body stays unread, so nothing that follows can be trusted
            answer = error_response(error)
            # Whoever only mistook the path or method may go on. The others are not understood: they are not
            # listened to any more.
            may_keep_alive = may_keep_alive and error.status in (404, 405)
        else:
            if answer is None:
                answer = AppRoute(BodyReader(head, transport, buffer, self.options.max_body_size))
            elif head.content_length != 0:
                body = await receive_body(BodyReader(head, transport, buffer, self.options.max_body_size))
        request = Request(
            method=head.method,
            target=head.target,
            path=head.target if head.target == head.path else head.path,  # share what is the same
            headers=headers,
            http_version=head.http_version,
            peer=transport.peer,
            body=body,
        )
        return Received(request, answer, parameters, may_keep_alive)

    async def _receive_head(
        self, transport: Transport, serving: ServeScope, buffer: bytearray
    ) -> RequestHead | None:
        may_be_empty_line = True
        deadline: float | None = None
        while True:
            if may_be_empty_line and len(buffer) >= 2:
                may_be_empty_line = False
                skip_empty_line(buffer)
            head = take_head(buffer)
            if head is not None:
                return head
            data = transport.receive_nowait()  # a client that has just connected has often sent all of it
            if data is None:
                if deadline is None:
                    deadline = trio.current_time() + HEAD_SECONDS
                data = await self._wait_for_head(transport, serving, deadline)
            if data is None:
                if buffer and not serving.is_draining:
                    raise HTTPException(408, "the request's head didn't come in time")
                return None
            if not data:
                return None
            buffer += data

    async def _wait_for_head(
        self, transport: Transport, serving: ServeScope, deadline: float
    ) -> bytes | None:
        with trio.CancelScope(deadline=deadline) as scope:
            serving.waiting.add(scope)
            try:
                return await transport.receive_some()
            finally:
                serving.waiting.discard(scope)
        return None

    def _check(self, head: RequestHead) -> None:
        allowed = self.options.allowed_hosts
        if allowed is not None and head.host not in allowed:
            raise HTTPException(421, "this server doesn't answer for that host")

    def _health(self) -> Response:
        if self.options.is_ready():
            return json_response({"status": "ok"})
        return json_response({"status": "the shared log has not been there yet"}, status=503)

    def _find(self, head: RequestHead) -> tuple[Route | Response | None, Mapping[str, object]]:
        """Find what answers a request, and the path's parameters; `None` stands for the app."""
        if head.target == "*":
            return Response(status=204, headers={"Allow": "GET, HEAD, POST, OPTIONS"}), NO_PARAMETERS
        found = self.router.find(head.path, "GET" if head.method == "HEAD" else head.method)
        if found is None:
            if head.path == self.options.health_path and head.method in ("GET", "HEAD"):
                return self._health(), NO_PARAMETERS
            if self.options.has_app:
                return None, NO_PARAMETERS
            raise HTTPException(404)
        if head.method == "OPTIONS":
            preflight = self.options.cross_origin.preflight_fields(head.headers.get("origin"), found.allow)
            return Response(status=204, headers={"Allow": found.allow, **preflight}), NO_PARAMETERS
        if found.target is None:
            if self.options.has_app:
                return None, NO_PARAMETERS
            raise HTTPException(405, headers={"Allow": found.allow})
        return found.target, found.parameters


def _check_upgrade(head: RequestHead, headers: Headers, answer: Route | Response | None) -> None:
    """Refuse a WebSocket where there is none, and what is no WebSocket where there is one."""
    is_websocket = isinstance(answer, WebSocketRoute)
    if is_websocket or asks_for_websocket(headers):
        check_handshake(head.method, head.http_version, headers)
        if not is_websocket:
            raise HTTPException(400, "this path is not a WebSocket: `Server.websocket` makes one")
