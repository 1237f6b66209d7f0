"""A warning where large events are published often: the one cost that no care on our side takes away."""

from __future__ import annotations

import logging
from typing import final

from .._wire.message import Batch

logger = logging.getLogger("trio_sse.hub")

#: From this size on, a write is looked at.
HEAVY_BYTES = 16 * 1024

_WINDOW_SECONDS = 10.0
_MOST_BYTES = 256 * 1024  # for each subscriber, in that time; the guide's dashboards send some KB a second
_QUIET_SECONDS = 600.0  # after a warning of a topic, until the next one


@final
class HeavyTraffic:
    """Counts what the pump writes in large pieces, and warns, once in a while for each topic."""

    def __init__(self) -> None:
        self._began_at = -float("inf")
        self._bytes: dict[str, int] = {}  # of each topic in the window under way
        self._warned_at: dict[str, float] = {}

    def note(self, batch: Batch, subscribers: int, now: float) -> None:
        """Take note of a large batch of one topic."""
        if now >= self._began_at + _WINDOW_SECONDS:
            self._began_at = now
            self._bytes.clear()
            self._warned_at = {t: at for t, at in self._warned_at.items() if now < at + _QUIET_SECONDS}
        topic = batch.messages[0].topic
        size = self._bytes[topic] = self._bytes.get(topic, 0) + batch.size
        if size < _MOST_BYTES or subscribers < 2 or topic in self._warned_at:
            return
        self._warned_at[topic] = now
        logger.warning(
            "topic %r: large events are published often, %d KiB to each of %d subscribers within %.0f s: "
            "subscribe with an interval, or make it a state, of which only the changes are sent",
            topic,
            size // 1024,
            subscribers,
            max(now - self._began_at, 1),
        )
