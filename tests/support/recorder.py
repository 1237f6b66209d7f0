"""A writer that records what the pump writes to it."""

from __future__ import annotations

from trio_sse import Hub
from trio_sse._hub.subscription import feed_of
from trio_sse._wire.message import Framing


class Recorder:
    """A writer that the pump writes to directly, and that keeps up."""

    framing = Framing.PLAIN
    pending: bytes | memoryview | None = None
    written_at = 0.0

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.events: list[int] = []

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        self.written.append(payload)
        self.events.append(events)
        return True


async def record(hub: Hub, recorder: Recorder, *topics: str) -> None:
    """Subscribe and have the pump write to a recorder until cancelled."""
    async with hub.subscribe(*topics) as subscription:
        await feed_of(subscription).forward_to(recorder)
