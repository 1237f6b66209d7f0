"""Ways to read a subscription."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Hub, ServerSentEvent, Subscription

from .waiting import SECONDS


async def take(subscription: Subscription, count: int) -> list[ServerSentEvent]:
    """Return the next events."""
    found: list[ServerSentEvent] = []
    with trio.fail_after(SECONDS):
        while len(found) < count:
            found.append(await anext(subscription))
    return found


async def take_data(subscription: Subscription, count: int) -> list[object]:
    return [event.data for event in await take(subscription, count)]


async def take_waiting(subscription: Subscription) -> list[object]:
    """Return the data of all events that wait."""
    found = []

    async def stop(scope: trio.CancelScope) -> None:
        await wait_all_tasks_blocked()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop, nursery.cancel_scope)
        async for event in subscription:
            found.append(event.data)
        nursery.cancel_scope.cancel()
    return found


async def publish(hub: Hub, *data: object, topic: str = "t", key: str | None = None) -> None:
    """Publish, and wait until the pump has delivered it."""
    for each in data:
        await hub.publish(topic, each, key=key)
    await wait_all_tasks_blocked()


def position(id: str | None) -> int:
    assert id is not None
    return int(id.partition(".")[2])
