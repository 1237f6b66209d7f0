"""A follower of a subscription that records what arrives and when."""

from __future__ import annotations

from typing import Any

import trio

from trio_sse import Hub, ServerSentEvent


class Follower:
    """Follows a subscription, and notes each event and its time."""

    def __init__(self, hub: Hub, *topics: str, **options: Any) -> None:
        self._subscription = hub.subscribe(*topics, **options)
        self.came: list[tuple[float, ServerSentEvent]] = []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        began_at = trio.current_time()
        async with self._subscription as events:
            task_status.started()
            async for event in events:
                self.came.append((round(trio.current_time() - began_at, 3), event))

    @property
    def data(self) -> list[object]:
        return [event.data for _, event in self.came]

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.came]

    def check_order(self) -> None:
        places = [int((event.id or "").partition(".")[2]) for _, event in self.came]
        assert places == sorted(set(places))


async def follow(hub: Hub, nursery: trio.Nursery, *topics: str, **options: Any) -> Follower:
    follower = Follower(hub, *topics, **options)
    await nursery.start(follower.run)
    return follower
