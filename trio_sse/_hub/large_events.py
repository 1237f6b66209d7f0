"""A warning when large events are published often: their cost is the one that the server cannot reduce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import trio

from .._logger import get_logger
from .._wire.message import Message

logger = get_logger("trio_sse.hub")

#: What is published to one topic at once is counted from this size on.
LARGE_BYTES = 16 * 1024

_WINDOW_SECONDS = 10.0
_MOST_BYTES = 256 * 1024  # for each subscriber, in that time; a dashboard takes some KB a second
_QUIET_SECONDS = 600.0  # after a warning about a topic, until the next one


@final
class LargeEventMonitor:
    """Counts the large events of each topic, also small ones in large numbers, and warns once in a while."""

    def __init__(self) -> None:
        self._began_at = -float("inf")
        self._bytes: dict[str, int] = {}  # of each topic in the current window
        self._warned_at: dict[str, float] = {}

    def note(self, messages: Sequence[Message], subscribers: int) -> None:
        """Count messages of one topic that are delivered together."""
        size = sum([len(message.wire) for message in messages])
        if size >= LARGE_BYTES:
            self._count(messages[0].topic, size, subscribers, trio.current_time())

    def _count(self, topic: str, size: int, subscribers: int, now: float) -> None:
        if now >= self._began_at + _WINDOW_SECONDS:
            self._began_at = now
            self._bytes.clear()
            self._warned_at = {t: at for t, at in self._warned_at.items() if now < at + _QUIET_SECONDS}
        size = self._bytes[topic] = self._bytes.get(topic, 0) + size
        if size < _MOST_BYTES or subscribers < 2 or topic in self._warned_at:
            return
        self._warned_at[topic] = now
        logger.warning(
            "topic %r: large events are published often, %d KiB to each of %d subscribers within %.0f s: "
            "subscribe with an interval, or use a state, of which only the changes are sent",
            topic,
            size // 1024,
            subscribers,
            max(now - self._began_at, 1),
        )
