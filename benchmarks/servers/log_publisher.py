"""Publish to a log on Redis: `python -m benchmarks.servers.log_publisher URL`.

It reads the command `publish N` from stdin, and answers when N events are stored.
"""

from __future__ import annotations

import sys

import trio

from benchmarks.harness.control import DATA, LIVE, answer, lines
from trio_sse import Hub, tune_garbage_collector
from trio_sse.redis import RedisLog

#: How many tasks publish. Each waits until its event is stored.
PUBLISHERS = 1000


async def publish(hub: Hub, count: int) -> None:
    remaining = iter(range(count))

    async def publish_some() -> None:
        for number in remaining:
            await hub.publish(LIVE, f"{number:08}{DATA[8:]}")

    async with trio.open_nursery() as nursery:
        for _ in range(PUBLISHERS):
            nursery.start_soon(publish_some)


async def run(url: str) -> None:
    hub = Hub(log=RedisLog(url))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        answer("ready")
        async for line in lines():
            await publish(hub, int(line.split()[1]))
            answer("published")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    tune_garbage_collector()  # as `trio-sse serve` does
    trio.run(run, sys.argv[1])
