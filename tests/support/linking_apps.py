"""Apps that answer with URLs, one of another route and the request's, and with the host of the client."""

from __future__ import annotations

from typing import Any

from quart import jsonify, request, url_for
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route


def make_starlette() -> Any:
    """Return an app of Starlette."""

    async def link(request: Any) -> JSONResponse:
        return JSONResponse([str(request.url_for("other", name="x")), str(request.url), request.client.host])

    return Starlette(
        routes=[Route("/link", link), Mount("/sub", routes=[Route("/{name}", link, name="other")])]
    )


def make_quart() -> Any:
    """Return an app of Quart-Trio."""
    app = QuartTrio(__name__)

    @app.get("/link")
    async def link() -> Any:
        return jsonify([url_for("other", name="x", _external=True), request.url, request.remote_addr])

    @app.get("/sub/<name>")
    async def other(name: str) -> str:
        return name

    return app
