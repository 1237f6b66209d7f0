"""A Redis that is stopped or killed."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from benchmarks.harness.service import redis
from benchmarks.hostile.scenario import Settings, Surroundings

#: For how long it is stopped, each time.
STOPPED_SECONDS = 3.0


@asynccontextmanager
async def stopped_redis(settings: Settings) -> AsyncIterator[Surroundings]:
    """Surround the server with a Redis that is stopped twice, but not ended."""
    async with redis() as server:

        async def disturb() -> None:
            for _ in range(2):
                await trio.sleep(settings.seconds / 5)
                server.signal(signal.SIGSTOP)
                try:
                    await trio.sleep(STOPPED_SECONDS)
                finally:
                    server.signal(signal.SIGCONT)

        yield Surroundings(options=["--log", server.url], disturb=disturb)


@asynccontextmanager
async def killed_redis(settings: Settings) -> AsyncIterator[Surroundings]:
    """Surround the server with a Redis that is killed twice, and started again."""
    async with redis() as server:

        async def disturb() -> None:
            for _ in range(2):
                await trio.sleep(settings.seconds / 5)
                server.kill()
                await trio.sleep(1)
                await server.start()

        yield Surroundings(options=["--log", server.url], disturb=disturb)
