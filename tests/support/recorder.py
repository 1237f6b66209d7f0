"""A writer that records what the pump writes to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from trio.testing import wait_all_tasks_blocked

from trio_sse import Hub
from trio_sse._subscription.subscription import feed_of
from trio_sse._wire.message import Framing

from .serving import running


class Recorder:
    """A writer that the pump writes to directly, and that keeps up."""

    framing = Framing.PLAIN
    pending: bytes | memoryview | None = None
    written_at = 0.0

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.events: list[int] = []

    @property
    def sequences(self) -> list[int]:
        """The numbers of the events that were written."""
        lines = b"".join(self.written).splitlines()
        return [int(line.partition(b".")[2]) for line in lines if line.startswith(b"id: ")]

    def begin_send(self, payload: bytes, events: int, now: float) -> bool:
        self.written.append(payload)
        self.events.append(events)
        return True

    def flush_nowait(self, now: float) -> None:
        """Do nothing: nothing is ever pending."""


async def record(hub: Hub, recorder: Recorder, *topics: str, **options: Any) -> None:
    """Subscribe and have the pump write to a recorder until cancelled."""
    async with hub.subscribe(*topics, **options) as subscription:
        await feed_of(subscription).forward_to(recorder)


@asynccontextmanager
async def recorded(hub: Hub, count: int) -> AsyncIterator[list[Recorder]]:
    """Run a hub with so many recorders of the topic `t`; yield them."""
    recorders = [Recorder() for _ in range(count)]
    async with running(hub) as nursery:
        for recorder in recorders:
            nursery.start_soon(record, hub, recorder, "t")
        await wait_all_tasks_blocked()
        yield recorders
