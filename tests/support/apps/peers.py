"""A server that tells who its clients are."""

from __future__ import annotations

from trio_sse import Request, Response, Server

server = Server()


@server.endpoint("/peer")
async def peer(request: Request) -> Response:
    """Answer with the client's address."""
    return Response(request.peer)
