"""Messages without a hub."""

from __future__ import annotations

from trio_sse import ServerSentEvent
from trio_sse._wire.message import Message


def message(data: str = "x", *, topic: str = "t", key: str | None = None) -> Message:
    """Make a message that has no place yet."""
    return Message(topic, ServerSentEvent(data), data, key)


def placed(sequence: int, data: str = "x", *, topic: str = "t", key: str | None = None) -> Message:
    """Make a message that has a place."""
    made = message(data, topic=topic, key=key)
    made.place(sequence, f"e.{sequence}")
    return made
