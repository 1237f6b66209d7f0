"""Checking a request's head against options and routes, and deciding what answers it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from .._http.body_decoders import too_large
from .._http.exceptions import HTTPException
from .._http.host_names import canonical_host
from .._http.path_pattern import has_dot_segment, routed_path
from .._http.request_head import MAX_QUERY_FIELDS, RequestHead
from .._http.response import Response
from .._http.routing import NO_PARAMETERS, Router
from .._http.websocket_handshake import asks_for_websocket, check_handshake
from .health import HealthChecks
from .options import RequestOptions
from .routes import AppRoute, AppWebSocketRoute, EndpointRoute, Route, Routes, WebSocketRoute

#: What answers a request; a `Response` needs no handler.
Destination = Route | AppRoute | AppWebSocketRoute | Response


@final
class RequestRouter:
    """Checks request heads and finds their destinations.

    Args:
        has_app: whether the server has an app, which answers whatever has no route.
        health: the health checks, which a route of the same path replaces.
        metrics: what answers `options.metrics_path`, which a route of the same path replaces, too.
        console: what answers the paths of the console, which routes replace, too.
    """

    def __init__(
        self,
        options: RequestOptions,
        routes: Routes,
        health: HealthChecks,
        *,
        has_app: bool,
        metrics: EndpointRoute | None = None,
        console: Router[Route] | None = None,
    ) -> None:
        self._options = options
        self._allowed_hosts = options.allowed_hosts
        self._router = routes.router
        self._has_app = has_app
        self._health = health
        self._metrics = metrics
        self._console = console

    def route(self, head: RequestHead) -> tuple[Destination, Mapping[str, object]]:
        """Return what answers a request, and the path's parameters.

        Raises:
            HTTPException: the request is refused.
        """
        allowed = self._allowed_hosts
        if (
            allowed is not None
            and head.host not in allowed
            and canonical_host(head.host) not in allowed
            and not self._asks_for_health(head)
        ):
            raise HTTPException(421, "this server does not serve that host")
        destination, parameters = self._find(head)
        destination = _check_upgrade(head, destination)
        is_for_app = isinstance(destination, AppRoute)
        if not is_for_app and head.target.count("&") >= MAX_QUERY_FIELDS:
            raise HTTPException(400, f"the query must have at most {MAX_QUERY_FIELDS} fields")
        if head.content_length != 0 or b"expect" in head.known:
            _check_body(head, self._options.max_body_size_of(is_for_app=is_for_app))
            may_have_body = head.method not in ("GET", "HEAD") or is_for_app
            if head.content_length != 0 and not may_have_body:
                raise HTTPException(400, f"a {head.method} request must not have a body")
        return destination, parameters

    def _asks_for_health(self, head: RequestHead) -> bool:
        """Return whether a request is for the health check, which orchestrators ask for by address."""
        path = _path_of(head)  # not the decoded one, which another path may share
        is_check = path in self._health and head.method in ("GET", "HEAD")
        return is_check and self._router.find(path, "GET") is None

    def _find(self, head: RequestHead) -> tuple[Destination, Mapping[str, object]]:
        if head.target == "*":
            return Response(status=204, headers={"Allow": "GET, HEAD, POST, OPTIONS"}), NO_PARAMETERS
        path = _path_of(head)
        match = None
        if "/." not in head.path or not has_dot_segment(head.path):
            match = self._router.find(path, "GET" if head.method == "HEAD" else head.method)
        if match is None:
            if path in self._health and head.method in ("GET", "HEAD"):
                return self._health.answer(path), NO_PARAMETERS
            if self._metrics is not None and path == self._options.metrics_path:
                if head.method in ("GET", "HEAD"):
                    return self._metrics, NO_PARAMETERS
                raise HTTPException(405, headers={"Allow": "GET, HEAD"})
            if self._console is not None:
                match = self._console.find(path, "GET" if head.method == "HEAD" else head.method)
            if match is not None:
                if match.destination is None:  # not even for OPTIONS: no page of another origin may use it
                    raise HTTPException(405, headers={"Allow": ", ".join(match.methods)})
                return match.destination, match.parameters
            if self._has_app:
                return AppRoute(), NO_PARAMETERS
            raise HTTPException(404)
        if head.method == "OPTIONS":
            origin = head.headers.get("origin")
            preflight = self._options.cross_origin.preflight_fields(origin, match.allow)
            return Response(status=204, headers={"Allow": match.allow, **preflight}), NO_PARAMETERS
        if match.destination is None:
            if self._has_app:
                return AppRoute(), NO_PARAMETERS
            raise HTTPException(405, headers={"Allow": match.allow})
        return match.destination, match.parameters


def _path_of(head: RequestHead) -> str:
    """Return the path by which a request finds what answers it."""
    return routed_path(head.target) if "%" in head.target else head.path


def _check_upgrade(head: RequestHead, destination: Destination) -> Destination:
    """Check that a WebSocket's path gets a handshake, and that no other path does; an app has both."""
    is_websocket = isinstance(destination, WebSocketRoute)
    if is_websocket or (b"upgrade" in head.known and asks_for_websocket(head.headers)):
        check_handshake(head.method, head.http_version, head.headers)
        if isinstance(destination, AppRoute):
            return AppWebSocketRoute()
        if not is_websocket:
            raise HTTPException(400, "this path is not a WebSocket")
    return destination


def _check_body(head: RequestHead, max_size: int) -> None:
    """Check what a head says about its body.

    Raises:
        HTTPException: 413 if the body is too large, 417 if the head has an unknown expectation.
    """
    expectations = head.headers.get_all("expect") if b"expect" in head.known else ()
    if expectations and {one.strip(" \t").lower() for one in ",".join(expectations).split(",")} != {
        "100-continue"
    }:
        raise HTTPException(417, "the only supported expectation is 100-continue")
    if head.content_length is not None and head.content_length > max_size:
        raise too_large(max_size)
