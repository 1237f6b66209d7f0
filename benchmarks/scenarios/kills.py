"""Ten million deliveries while workers are killed: `python -m benchmarks.kills`.

Four workers share a Redis that always syncs its append-only file. Each worker is killed ten times, at
random, while events are published, and Redis four times. A worker's clients reconnect with their
`Last-Event-ID`. The benchmark fails if an event is lost, repeated or out of order. A separate process
publishes most events. In addition, clients publish through the workers, and an event whose request was
answered must not be lost either.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from benchmarks.harness import machine, programs
from benchmarks.harness.clients import clients
from benchmarks.harness.publish_clients import PublishClients
from benchmarks.harness.publisher import publishing
from benchmarks.harness.service import Service, redis, running
from benchmarks.harness.worker import BenchmarkError
from tests.support.redis_server import RedisServer

#: The part of the run in which workers are killed. The remaining events come after it.
_KILLING_SHARE = 0.9
_REDIS_AWAY_SECONDS = 0.3


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark and return its report."""
    events = arguments.deliveries // arguments.streams
    async with (
        redis() as server,
        running(arguments.workers, server.url) as service,
        clients(service.port, arguments.streams, patience=3600) as streams,
        publishing(server.url) as publisher,
    ):
        await streams.connect()
        async with streams.receiving(1):
            await publisher.publish()  # so that all have an id
        began_at = time.monotonic()
        async with streams.receiving(events) as replies, trio.open_nursery() as nursery:
            seconds = events / arguments.per_second
            kills = arguments.workers * arguments.kills
            publish_clients = PublishClients(service.port, publisher.hub)
            nursery.start_soon(publish_clients.run, seconds * _KILLING_SHARE)
            nursery.start_soon(_kill, service, arguments.workers, kills, seconds * _KILLING_SHARE)
            nursery.start_soon(_kill_redis, server, arguments.redis_kills, seconds * _KILLING_SHARE)
            await publisher.steady(events, arguments.per_second)
        took = time.monotonic() - began_at
        await trio.sleep(1.5)  # until the status is current
        (reply,) = replies
        status = service.status()
        if status["restarts"] != kills:
            raise BenchmarkError(f"there were {status['restarts']} restarts, not {kills}")
        return {
            "deliveries": events * arguments.streams,
            "lost, repeated or out of order": 0,
            **publish_clients.report(),
            "workers killed": kills,
            "Redis killed": arguments.redis_kills,
            "streams": arguments.streams,
            "streams that reconnected": int(reply["reconnects"]),
            "s": round(took, 1),
            "latency p50 ms": reply["latency_p50"] / 1e3,
            "latency p99 ms": reply["latency_p99"] / 1e3,
            "latency max ms, of reconnected streams": reply["latency_max"] / 1e3,
        }


async def _kill(service: Service, workers: int, kills: int, seconds: float) -> None:
    """Kill the worker in each slot equally often, in random order and at random times."""
    slots = [slot for slot in range(workers) for _ in range(kills // workers)]
    random.shuffle(slots)
    began_at = trio.current_time()
    times = sorted(random.uniform(0, seconds) for _ in slots)
    killed: set[int] = set()
    for slot, at in zip(slots, times, strict=True):
        await trio.sleep_until(began_at + at)
        while (pid := _pid_of(service, slot)) is None or pid in killed:  # noqa: ASYNC110  # another process
            await trio.sleep(0.1)
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)


async def _kill_redis(server: RedisServer, kills: int, seconds: float) -> None:
    """Kill Redis at regular times, and start it again."""
    for _ in range(kills):
        await trio.sleep(seconds / (kills + 1))
        server.kill()
        await trio.sleep(_REDIS_AWAY_SECONDS)
        await server.start()


def _pid_of(service: Service, slot: int) -> int | None:
    """Return the process id of the worker in a slot, once it serves."""
    found = (w["pid"] for w in service.status()["workers"] if w["slot"] == slot and "opened" in w)
    return next(found, None)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deliveries", type=int, default=10_000_000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--per-second", type=float, default=40.0, help="events (default: 40)")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=10, help="of each worker (default: 10)")
    parser.add_argument("--redis-kills", type=int, default=4, help="of Redis (default: 4)")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def main() -> None:
    """Run as the command line says."""
    arguments = parse()
    programs.build()
    try:
        report = trio.run(measure, arguments)
    except* BenchmarkError as group:
        sys.exit(f"kills: {group.exceptions[0]}")
    for name, value in report.items():
        print(f"{name:40}{value:.4g}" if isinstance(value, float) else f"{name:40}{value}")
    if arguments.json is not None:
        result = {"machine": machine.facts(), "report": report}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
