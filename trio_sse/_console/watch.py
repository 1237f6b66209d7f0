"""Watching a topic live: its events, as a stream that drops what is too much for people to read."""

from __future__ import annotations

import json

import trio

from .._hub.hub import Hub
from .._stream.connection import Connection
from .._subscription.subscription import SlowConsumer
from .._wire.event import ServerSentEvent

# At most so many events a second are shown; the newest are left out then, and counted.
_MOST_PER_SECOND = 50

_LONGEST_TEXT = 4096


async def watch(hub: Hub, topic: str, connection: Connection) -> None:
    """Send what is published to a topic from now on, until the viewer leaves.

    Raises:
        TopicError: the topic's name is not acceptable.
    """
    while True:
        try:
            await _watch(hub, topic, connection)
            return
        except SlowConsumer:
            await connection.send(json.dumps({"reason": "too_many"}), event="left_out")


async def _watch(hub: Hub, topic: str, connection: Connection) -> None:
    window, shown, left_out = trio.current_time(), 0, 0
    async with hub.subscribe(topic) as subscription:
        await connection.send(json.dumps({"topic": topic}), event="watching")
        async for event in subscription:
            if (now := trio.current_time()) >= window + 1:
                if left_out:
                    await connection.send(json.dumps({"events": left_out}), event="left_out")
                window, shown, left_out = now, 0, 0
            if shown < _MOST_PER_SECOND:
                shown += 1
                await connection.send(json.dumps(_as_row(event)), event="event")
            else:
                left_out += 1


def _as_row(event: ServerSentEvent) -> dict[str, object]:
    text = event.text()
    return {
        "id": event.id,
        "event": event.event or "message",
        "data": text[:_LONGEST_TEXT],
        "size": len(text),
    }
