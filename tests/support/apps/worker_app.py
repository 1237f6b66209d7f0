"""A server for tests of workers: their process ids, topics, and an endpoint that kills its worker."""

from __future__ import annotations

import os
import signal

import trio

from trio_sse import Connection, Request, Response, Server

server = Server(reconnect_spread=1, drain_timeout=120)


@server.endpoint("/pid")
async def pid(request: Request) -> Response:
    """Report which process answers."""
    return Response(f"{os.getpid()}")


@server.route("/live")
async def live(connection: Connection) -> None:
    """Follow a topic."""
    await connection.subscribe("live")


@server.endpoint("/live", methods=["POST"])
async def publish(request: Request) -> Response:
    """Publish the request's body."""
    await server.hub.publish("live", request.body.decode())
    return Response(status=204)


@server.route("/stubborn")
async def stubborn(connection: Connection) -> None:
    """Return which process this is, and ignore a request to end."""
    await connection.send(os.getpid())
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


@server.endpoint("/die", methods=["POST"])
async def die(request: Request) -> Response:
    """Die without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Response("")


@server.endpoint("/streams")
async def streams(request: Request) -> Response:
    """Report how many streams this process has open."""
    return Response(f"{server.statistics().open_streams}")
