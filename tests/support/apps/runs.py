"""A server for tests of runs in a browser: each run counts, at the pace that is asked for.

Its arguments are the port, if it is not any free one, and the file of a log that nodes share, if they do.
"""

from __future__ import annotations

import json
import sys

import trio

from trio_sse import Connection, HTTPException, Hub, Request, Response, Runs, Server, client_script
from trio_sse.sqlite import SQLiteLog

from .counting import PAGE, count

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 0
LOG = SQLiteLog(sys.argv[2]) if len(sys.argv) > 2 else None

server = Server(hub=Hub(log=LOG), reconnect_spread=1, keepalive=0.5)
runs = Runs(server.hub, ttl=60, lease=2)


@server.endpoint("/")
async def page(request: Request) -> Response:
    """Return the page."""
    return Response(PAGE, content_type="text/html; charset=utf-8")


@server.endpoint("/trio-sse.js")
async def script(request: Request) -> Response:
    """Return the module."""
    return Response(client_script(), content_type="text/javascript; charset=utf-8")


def check_token(connection: Connection) -> None:
    """Refuse who has no token where one is asked for."""
    if "token" in connection.request.query and connection.request.headers.get("authorization") != "Bearer t":
        raise HTTPException(401)


@server.route("/runs", methods=["POST"])
async def start(connection: Connection) -> None:
    """Start a run."""
    check_token(connection)
    options = json.loads(connection.request.body)
    view = await runs.start(count, options["to"], options["pause"])
    await view.stream(connection)


@server.route("/runs/{id}")
async def join(connection: Connection, id: str) -> None:
    """Join a run."""
    await runs.get(id).stream(connection)


@server.endpoint("/runs/{id}/cancel", methods=["POST"])
async def cancel(request: Request, id: str) -> Response:
    """Cancel a run."""
    await runs.get(id).cancel("stopped")
    return Response("")


@server.endpoint("/viewers", methods=["GET"])
async def viewers(request: Request) -> Response:
    """Return how many streams show each run."""
    found = {info.id: info.viewers for info in await runs.list()}
    return Response(json.dumps(found), content_type="application/json")


@server.endpoint("/cut", methods=["POST"])
async def cut(request: Request) -> Response:
    """Cut all streams."""
    for info in list(server.connections()):
        server.close_connections(id=info.id, reconnect=True)
    return Response("")


async def main() -> None:
    """Serve until cancelled."""
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"http://127.0.0.1:{addresses[0][1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
