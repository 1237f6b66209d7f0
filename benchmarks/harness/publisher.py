"""A publisher to a service's log, in this process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from trio_sse import Hub
from trio_sse.redis import RedisLog


@final
class Publisher:
    """Publishes numbered events with the time of their publication. Only `publishing` creates it."""

    def __init__(self, hub: Hub) -> None:
        self.published = 0
        self.hub = hub

    async def publish(self) -> None:
        """Publish the next event and wait until it is stored."""
        self.published += 1
        data = f"{time.monotonic_ns():020} {self.published} ".ljust(100, "x")
        await self.hub.publish("live", data)

    async def steady(self, events: int, per_second: float) -> None:
        """Publish `events` at an even rate. A slow one does not delay the others."""
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for index in range(events):
                await trio.sleep_until(began_at + index / per_second)
                nursery.start_soon(self.publish)


@asynccontextmanager
async def publishing(url: str) -> AsyncIterator[Publisher]:
    """Run a hub on the service's log."""
    hub = Hub(log=RedisLog(url, publish_timeout=120, timeout=30), history=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield Publisher(hub)
        nursery.cancel_scope.cancel()
