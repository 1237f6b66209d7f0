"""The JavaScript module for pages. It is part of the package, so that any server can serve it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def client_script() -> str:
    """Return the text of `trio-sse.js`, with which pages follow streams, the server's clock, and states.

    Serve it as `text/javascript`, at any path::

        @server.endpoint("/trio-sse.js")
        async def script(request: Request) -> Response:
            return Response(client_script(), content_type="text/javascript; charset=utf-8")
    """
    return (files(__package__) / "static" / "trio-sse.js").read_text("utf-8")
