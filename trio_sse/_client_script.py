"""The JavaScript module for pages, as part of the package, so that a server of any kind can serve it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def client_script() -> str:
    """Give the text of `trio-sse.js`, by which pages follow streams, keep the server's time, and see states.

    Serve it as `text/javascript`, under any path::

        @server.endpoint("/trio-sse.js")
        async def script(request: Request) -> Response:
            return Response(client_script(), content_type="text/javascript; charset=utf-8")
    """
    return (files(__package__) / "static" / "trio-sse.js").read_text("utf-8")
