"""The JavaScript module for pages. It is part of the package, so that any server can serve it."""

from __future__ import annotations

from functools import cache

# Its parts, in their order: they share one scope.
_PARTS = (
    "begin",
    "fetch_source",
    "follower",
    "order",
    "shared",
    "listener",
    "clock",
    "patches",
    "state",
    "run",
    "end",
)


@cache
def client_script() -> str:
    """Return the text of `trio-sse.js`, with which pages follow streams, a clock, states and runs.

    Serve it as `text/javascript`, at any path::

        @server.endpoint("/trio-sse.js")
        async def script(request: Request) -> Response:
            return Response(client_script(), content_type="text/javascript; charset=utf-8")
    """
    from importlib.resources import files  # loads eight modules, which a server seldom needs

    folder = files(__package__) / "static" / "script"
    return "\n".join([(folder / f"{part}.js").read_text("utf-8") for part in _PARTS])
