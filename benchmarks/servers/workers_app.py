"""The app of the benchmarks with workers: `trio-sse serve benchmarks.servers.workers_app:server --workers N`.

`BENCHMARK_LOG` is its Redis, `BENCHMARK_LOG_TIMEOUT` the seconds in which that has to answer.
"""

from __future__ import annotations

import os

from trio_sse import Connection, Hub, Request, Response, Server
from trio_sse.redis import RedisLog

_log = RedisLog(os.environ["BENCHMARK_LOG"], timeout=float(os.environ["BENCHMARK_LOG_TIMEOUT"]))

# Ends a thousand streams a second, so a full worker takes some twenty seconds to drain.
server = Server(hub=Hub(log=_log), max_connections=20_000, drain_timeout=60)


@server.route("/updates")
async def updates(connection: Connection) -> None:
    await connection.subscribe("live")


@server.endpoint("/asked", methods=["POST"])
async def publish(request: Request) -> Response:
    await server.hub.publish("asked", request.body.decode())
    return Response(status=204)
