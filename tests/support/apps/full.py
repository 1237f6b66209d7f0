"""A server with room for one stream; `tests/browser/test_full_server.py` fills it."""

from __future__ import annotations

from trio_sse import Connection, Request, Response, Server

PAGE = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Full</title>'

server = Server(max_connections=1)


@server.endpoint("/")
async def page(request: Request) -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


@server.route("/live")
async def live(connection: Connection) -> None:
    await connection.subscribe("live")
