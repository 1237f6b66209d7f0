"""The app of `run_kills`: runs that write numbers, over workers that share a log.

`BENCHMARK_LOG` is the URL of its Redis, and `BENCHMARK_LOG_TIMEOUT` the seconds in which Redis must answer.
"""

from __future__ import annotations

import json
import os

import trio

from trio_sse import Connection, Hub, Request, Response, Run, Runs, Server
from trio_sse.redis import RedisLog

_log = RedisLog(os.environ["BENCHMARK_LOG"], timeout=float(os.environ["BENCHMARK_LOG_TIMEOUT"]))
_PAUSE_SECONDS = 0.02

server = Server(hub=Hub(log=_log), max_connections=20_000)
runs = Runs(server.hub, lease=5.0, ttl=60)


async def count(run: Run, upto: int) -> int:
    """Write numbers, from where the text ends; each tenth one is also an event."""
    for number in range(run.text().count(" "), upto):
        await run.append(f"{number} ")
        if number % 10 == 9:
            await run.emit(number)
        await trio.sleep(_PAUSE_SECONDS)
    return run.attempt


@runs.resumable(max_attempts=1000)
async def count_on(run: Run, upto: int) -> int:
    """Do the same, also after the node has died."""
    for number in range(run.text().count(" "), upto):
        await run.append(f"{number} ")
        if number % 10 == 9:
            await run.checkpoint(number)
        await trio.sleep(_PAUSE_SECONDS)
    if run.checkpoint_value != upto - 1:
        raise RuntimeError(f"the checkpoint is {run.checkpoint_value}")
    return run.attempt


@server.endpoint("/runs", methods=["POST"])
async def start(request: Request) -> Response:
    key, kind, upto = request.body.decode().split()
    view = await runs.start(count_on if kind == "resumable" else count, int(upto), key=key)
    return Response(json.dumps(view.id))


@server.route("/runs/{id}")
async def join(connection: Connection, id: str) -> None:
    await runs.get(id).stream(connection, in_order="in_order" in connection.request.query)


@server.endpoint("/runs/{id}/cancel", methods=["POST"])
async def cancel(request: Request, id: str) -> Response:
    await runs.get(id).cancel("cancelled by a client")
    return Response("")
