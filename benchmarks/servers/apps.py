"""The apps of `benchmarks.apps`, for any server: the same three routes in Starlette and in Quart.

- `/hello` answers with JSON,
- `/length` reads the body of a POST, and answers with its length,
- `/parts` streams a response in parts.

The peers' environment has neither Trio nor trio_sse, so nothing here imports them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

_PART = b"x" * 1024
_PARTS = 20


async def _parts() -> AsyncIterator[bytes]:
    for _ in range(_PARTS):
        yield _PART


def starlette_app() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def hello(request: Request) -> Response:
        return JSONResponse({"hello": "world"})

    async def length(request: Request) -> Response:
        return JSONResponse({"length": len(await request.body())})

    async def parts(request: Request) -> Response:
        return StreamingResponse(_parts(), media_type="application/octet-stream")

    return Starlette(
        routes=[
            Route("/hello", hello),
            Route("/length", length, methods=["POST"]),
            Route("/parts", parts),
        ]
    )


def quart_app(kind: type[Any]) -> Any:
    """Return an app of `Quart`, or of `QuartTrio`."""
    from quart import Response, request

    app = kind(__name__)

    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    async def length() -> dict[str, int]:
        return {"length": len(await request.get_data())}

    async def parts() -> Response:
        return Response(_parts(), mimetype="application/octet-stream")

    app.add_url_rule("/hello", view_func=hello)
    app.add_url_rule("/length", view_func=length, methods=["POST"])
    app.add_url_rule("/parts", view_func=parts)
    return app
