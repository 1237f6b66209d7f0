"""Runs whose workers and Redis are killed 200 times: `python -m benchmarks.run_kills`.

Four workers share a Redis that always syncs its append-only file. Every three seconds a worker is killed, and
every fifth time Redis. Clients start runs of both kinds, those that are lost with their worker and those that
another worker goes on with, and follow each with two viewers, which reconnect to any worker. The benchmark
fails if a text has a hole or a duplicate, if viewers of a run disagree about its end, if a run has none, or
if a resumable run does not finish. It needs redis-server.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import trio

from benchmarks.harness import machine
from benchmarks.harness.run_clients import RunClients
from benchmarks.harness.service import Service, redis, running
from benchmarks.harness.worker import BenchmarkError
from tests.support.redis_server import RedisServer

_REDIS_EVERY = 5
_REDIS_AWAY_SECONDS = 0.3


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark and return its report."""
    app = "benchmarks.servers.run_workers_app:server"
    async with redis() as server, running(arguments.workers, server.url, app=app) as service:
        began_at = time.monotonic()
        clients = RunClients(service.port, count=arguments.runs, upto=arguments.numbers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.run)
            kills = await _kill(service, server, arguments.kills, arguments.interval)
            clients.is_over = True
        took = time.monotonic() - began_at
    cancels = sorted(clients.cancelled_after) or [0.0]
    return {
        "workers killed": kills["worker"],
        "Redis killed": kills["redis"],
        "runs": sum(clients.ends.values()),
        **dict(sorted(clients.ends.items())),
        "runs that another worker has finished": clients.resumed,
        "connections of viewers": clients.connections,
        "holes, duplicates, ends that differ": 0,
        "cancelled after, median, ms": round(statistics.median(cancels) * 1000, 1),
        "s": round(took, 1),
    }


async def _kill(service: Service, server: RedisServer, count: int, interval: float) -> dict[str, int]:
    """Kill workers in turn, and Redis now and then."""
    kills = {"worker": 0, "redis": 0}
    killed: set[int] = set()
    slots = len(service.status()["workers"])
    for number in range(count):
        await trio.sleep(interval)
        if number % _REDIS_EVERY == _REDIS_EVERY - 1:
            server.kill()
            await trio.sleep(_REDIS_AWAY_SECONDS)
            await server.start()
            kills["redis"] += 1
            continue
        slot = kills["worker"] % slots
        while (pid := _pid_of(service, slot)) is None or pid in killed:  # noqa: ASYNC110  # another process
            await trio.sleep(0.1)
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        kills["worker"] += 1
    return kills


def _pid_of(service: Service, slot: int) -> int | None:
    """Return the process id of the worker in a slot, once it serves."""
    found = (w["pid"] for w in service.status()["workers"] if w["slot"] == slot and "opened" in w)
    return next(found, None)


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--interval", type=float, default=3.0, help="seconds between kills (default: 3)")
    parser.add_argument("--runs", type=int, default=24, help="at a time (default: 24)")
    parser.add_argument("--numbers", type=int, default=200, help="of each run (default: 200)")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        report = trio.run(measure, arguments)
    except* BenchmarkError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        sys.exit(f"run_kills: {error}")
    for name, value in report.items():
        print(f"{name:40}{value}")
    if arguments.json is not None:
        result = {"machine": machine.facts(), "report": report}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
