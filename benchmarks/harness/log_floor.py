"""A process that follows a stream of Redis by coredis alone: `python -m benchmarks.log_floor URL`.

What it takes from XADD to a reader of XREAD, without a hub, is what a log on Redis stands beside. It takes
`follow N`, reads so many entries more, and answers with percentiles of their ages in milliseconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from benchmarks.harness.control import answer, lines
from benchmarks.harness.worker import Reply, Worker, started
from trio_sse._tools.load.histogram import Distribution

STREAM = "floor"


async def obey(url: str) -> None:
    import coredis

    client: Any = coredis.Redis.from_url(url, verify_version=False)
    last: str | bytes = "0-0"
    async with client:
        answer("ready")
        async for line in lines():
            count = int(line.split()[1])
            ages = Distribution()
            while ages.count < count:
                found = await client.xread({STREAM: last}, count=256, block=1000)
                now = time.monotonic_ns()
                for entry in (found or {}).get(STREAM.encode(), ()):
                    last = entry[0]
                    ages.add((now - int(entry[1][b"d"][:20])) / 1e6)
            found_ages = ages.percentiles()
            answer("followed", **{name: found_ages[name] for name in ("p50", "p99", "max")})


@asynccontextmanager
async def following(url: str, processes: int) -> AsyncIterator[list[Worker]]:
    """Run so many followers."""
    command = [sys.executable, "-m", "benchmarks.harness.log_floor", url]
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
    """Give percentiles of the milliseconds from XADD to the followers, on average over these."""
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


if __name__ == "__main__":
    trio.run(obey, sys.argv[1])
