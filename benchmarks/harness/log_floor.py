"""The floor of a log on Redis: the time from XADD to a reader of XREAD, with coredis alone."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from benchmarks.harness.worker import Reply, Worker, started
from benchmarks.servers.log_follower import STREAM


@asynccontextmanager
async def following(url: str, processes: int) -> AsyncIterator[list[Worker]]:
    """Run a number of followers."""
    command = [sys.executable, "-m", "benchmarks.servers.log_follower", url]
    workers: list[Worker] = []

    async def follow(*, task_status: trio.TaskStatus[Worker]) -> None:
        async with started("follower", command, None) as worker:
            await worker.reply()
            task_status.started(worker)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(processes):
            workers.append(await nursery.start(follow))
        yield workers
        nursery.cancel_scope.cancel()


async def latency(url: str, processes: int, events: int, per_second: float) -> tuple[float, float, float]:
    """Return the 50 % and 99 % percentiles, averaged over the followers, and the maximum, in milliseconds."""
    import coredis

    replies: list[Reply] = []
    client: Any = coredis.Redis.from_url(url, verify_version=False)
    async with client, following(url, processes) as workers:

        async def ask(worker: Worker) -> None:
            replies.append(await worker.ask(f"follow {events}"))

        async def add() -> None:
            await client.xadd(STREAM, {"d": f"{time.monotonic_ns():020}".ljust(100, "x")})

        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(ask, worker)
            began_at = trio.current_time()
            for index in range(events):
                await trio.sleep_until(began_at + index / per_second)
                nursery.start_soon(add)
    p50, p99 = (sum(reply[name] for reply in replies) / processes for name in ("p50", "p99"))
    return p50, p99, max(reply["max"] for reply in replies)
