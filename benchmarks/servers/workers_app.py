"""The app of the benchmarks with workers: `trio-sse serve benchmarks.servers.workers_app:server --workers N`.

`BENCHMARK_LOG` is the URL of its Redis, and `BENCHMARK_LOG_TIMEOUT` the seconds in which Redis must answer.
"""

from __future__ import annotations

import os

from trio_sse import Connection, Hub, Request, Response, Server
from trio_sse.redis import RedisLog

_log = RedisLog(os.environ["BENCHMARK_LOG"], timeout=float(os.environ["BENCHMARK_LOG_TIMEOUT"]))

# Draining ends a thousand streams a second, so a full worker takes about twenty seconds.
server = Server(hub=Hub(log=_log), max_connections=20_000, drain_timeout=60)


@server.route("/updates")
async def updates(connection: Connection) -> None:
    await connection.subscribe("live")


@server.endpoint("/asked", methods=["POST"])
async def publish(request: Request) -> Response:
    await server.hub.publish("asked", request.body.decode())
    return Response(status=204)
