"""A server for the metrics and health checks of another one, on an address of its own.

It answers until it is cancelled: also while the other one starts, drains, or has no room for a request, and
when clients have taken all file descriptors that they can get.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .._http.request import Request
from .._http.response import Response
from .._hub.hub import Hub
from .._request.health import HealthChecks
from .metrics import metrics_endpoint
from .server import Server, serve_operators

_MOST_CONNECTIONS = 100


def monitoring_server(server: Server) -> Server:
    """Return a server that answers with the metrics of another one, and with its health checks.

    The metrics are at the other one's `metrics_path`, or else at `/metrics`; the checks are at `/healthz`,
    `/readyz` and `/health`. Serve it on an address that the public does not reach, for as long as the other
    one is served, and then cancel it.
    """
    made = Server(
        hub=Hub(history=0),
        max_connections=_MOST_CONNECTIONS,
        health_path=None,
        liveness_path=None,
        readiness_path=None,
        http2=False,
    )
    serve_operators(made)
    made.endpoint(server.metrics_path or "/metrics")(metrics_endpoint(server.collect_statistics))
    paths = {"health_path": "/health", "liveness_path": "/healthz", "readiness_path": "/readyz"}
    checks = HealthChecks(**paths, problems=server.problems, warnings=server.warnings)
    for path in paths.values():
        made.endpoint(path)(_check(checks, path))
    return made


def _check(checks: HealthChecks, path: str) -> Callable[[Request], Awaitable[Response]]:
    async def check(request: Request) -> Response:
        return checks.answer(path)

    return check
