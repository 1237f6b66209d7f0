"""Topics that are used once, and a topic with many subscribers: what a subscription costs, first and last."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from trio_sse import Hub

_PARTS = 10


async def visit_topics(hub: Hub, count: int) -> dict[str, float]:
    """Subscribe to so many topics, publish one event to each, receive it, and leave.

    Return the CPU time of one, in microseconds, at the beginning and at the end.
    """
    times = []
    for part in range(_PARTS):
        began_at = time.process_time()
        for number in range(count // _PARTS):
            topic = f"once/{part}/{number}"
            async with hub.subscribe(topic) as events:
                await hub.publish(topic, "x")
                await anext(events)
        times.append((time.process_time() - began_at) / (count // _PARTS) * 1e6)
    return {"first": times[0], "last": times[-1], "slowest": max(times)}


async def join_a_crowd(hub: Hub, count: int, members: int) -> dict[str, float]:
    """Subscribe so many times to a topic that has so many subscribers, and leave each time.

    Return the CPU time of one, in microseconds, with nobody else, at the beginning and at the end.
    """
    alone = await _visit(hub, max(1, count // _PARTS))
    async with AsyncExitStack() as stack:
        for _ in range(members):
            await stack.enter_async_context(hub.subscribe("crowd"))
        times = [await _visit(hub, max(1, count // _PARTS)) for _ in range(_PARTS)]
    return {"alone": alone, "first": times[0], "last": times[-1], "slowest": max(times)}


async def _visit(hub: Hub, count: int) -> float:
    began_at = time.process_time()
    for _ in range(count):
        async with hub.subscribe("crowd"):
            pass
    return (time.process_time() - began_at) / count * 1e6
