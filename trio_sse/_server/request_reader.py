"""Reading a request: its head, then its route, then its body, each within bounds of size and time.

Invariant: a request whose body was not read to its end is the last one on its connection. Nobody can tell
where the next one starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, final

import trio

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._http.request_head import RequestHead, skip_empty_line, take_head
from .._http.response import Response, error_response, json_response
from .._http.routing import NO_PARAMETERS
from .._http.websocket_handshake import asks_for_websocket, check_handshake
from .._stream.scope import ServeScope
from .._transport.base import Transport
from .body import BodyReader, check_body, receive_body
from .options import RequestOptions
from .routes import AppRoute, Route, Routes, WebSocketRoute

HEAD_SECONDS = 10.0  # for the whole head


class RoutedRequest(NamedTuple):
    """A request, and what answers it.

    Attributes:
        target: a route; or the response itself, if it needs no handler.
        parameters: the path's parameters, for the route's handler.
        may_keep_alive: whether the client may send another request on the connection.
        app_body: the body, if the app is to read it.
    """

    request: Request
    target: Route | AppRoute | Response
    parameters: Mapping[str, object]
    may_keep_alive: bool
    app_body: BodyReader | None


@final
class RequestReader:
    """Reads requests and finds their routes.

    Args:
        has_app: whether the server has an app, which answers whatever has no route.
        is_ready: returns whether the health check passes.
    """

    def __init__(
        self, options: RequestOptions, routes: Routes, *, has_app: bool, is_ready: Callable[[], bool]
    ) -> None:
        self._cross_origin = options.cross_origin
        self._routes = routes
        self._max_body_size = options.max_body_size
        allowed = options.allowed_hosts
        self._allowed_hosts = None if allowed is None else frozenset(host.lower() for host in allowed)
        self._health_path = options.health_path
        self._has_app = has_app
        self._is_ready = is_ready

    async def read(
        self, transport: Transport, serving: ServeScope, buffer: bytearray
    ) -> RoutedRequest | None:
        """Read a request, and leave in `buffer` what follows it; return `None` if there is none.

        Raises:
            HTTPException: the request is refused; the connection must not carry another one.
            trio.BrokenResourceError: the client has disconnected.
        """
        head = await self._read_head(transport, serving, buffer)
        if head is None:
            return None
        target: Route | AppRoute | Response
        parameters = NO_PARAMETERS
        body, app_body = b"", None
        may_keep_alive = head.keeps_alive
        try:
            target, parameters = self._check_and_route(head)
        except HTTPException as error:
            if head.content_length != 0:
                error.headers.update(self._cross_origin.fields(head.headers.get("origin")))
                raise
            target = error_response(error)
            # A wrong path or method is an honest mistake. After any other refusal, the client and the server
            # may disagree about what was sent.
            may_keep_alive = may_keep_alive and error.status in (404, 405)
        else:
            if isinstance(target, AppRoute):
                app_body = BodyReader(head, transport, buffer, self._max_body_size)
            elif head.content_length != 0:
                body = await receive_body(BodyReader(head, transport, buffer, self._max_body_size))
        request = Request(
            method=head.method,
            target=head.target,
            path=head.target if head.target == head.path else head.path,  # share one string
            headers=head.headers,
            http_version=head.http_version,
            peer=transport.peer,
            body=body,
        )
        return RoutedRequest(request, target, parameters, may_keep_alive, app_body)

    # The head

    async def _read_head(
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
            data = transport.receive_nowait()  # a new client has often sent its whole request
            if data is None:
                if deadline is None:
                    deadline = trio.current_time() + HEAD_SECONDS
                data = await self._wait_for_head(transport, serving, deadline)
            if data is None:
                if buffer and not serving.is_draining:
                    raise HTTPException(408, "the request's head did not arrive in time")
                return None
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

    # Its route

    def _check_and_route(self, head: RequestHead) -> tuple[Route | AppRoute | Response, Mapping[str, object]]:
        """Return what answers a request, and the path's parameters.

        Raises:
            HTTPException: the request is refused.
        """
        allowed = self._allowed_hosts
        if allowed is not None and head.host not in allowed:
            raise HTTPException(421, "this server does not serve that host")
        target, parameters = self._find(head)
        _check_upgrade(head, target)
        check_body(head, self._max_body_size)
        if head.content_length != 0 and head.method in ("GET", "HEAD") and not isinstance(target, AppRoute):
            raise HTTPException(400, f"a {head.method} request must not have a body")
        return target, parameters

    def _find(self, head: RequestHead) -> tuple[Route | AppRoute | Response, Mapping[str, object]]:
        if head.target == "*":
            return Response(status=204, headers={"Allow": "GET, HEAD, POST, OPTIONS"}), NO_PARAMETERS
        match = self._routes.find(head.path, "GET" if head.method == "HEAD" else head.method)
        if match is None:
            if head.path == self._health_path and head.method in ("GET", "HEAD"):
                return self._health(), NO_PARAMETERS
            if self._has_app:
                return AppRoute(), NO_PARAMETERS
            raise HTTPException(404)
        if head.method == "OPTIONS":
            preflight = self._cross_origin.preflight_fields(head.headers.get("origin"), match.allow)
            return Response(status=204, headers={"Allow": match.allow, **preflight}), NO_PARAMETERS
        if match.target is None:
            if self._has_app:
                return AppRoute(), NO_PARAMETERS
            raise HTTPException(405, headers={"Allow": match.allow})
        return match.target, match.parameters

    def _health(self) -> Response:
        if self._is_ready():
            return json_response({"status": "ok"})
        return json_response({"status": "unavailable", "reason": "log_not_loaded"}, status=503)


def _check_upgrade(head: RequestHead, target: Route | AppRoute | Response) -> None:
    """Check that a WebSocket's path gets a handshake, and that no other path does."""
    is_websocket = isinstance(target, WebSocketRoute)
    if is_websocket or asks_for_websocket(head.headers):
        check_handshake(head.method, head.http_version, head.headers)
        if not is_websocket:
            raise HTTPException(400, "this path is not a WebSocket; `Server.websocket` adds one")
