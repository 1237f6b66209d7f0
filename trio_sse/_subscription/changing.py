"""Changing the topics of a subscription while it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

from .feed import Feed


async def change_topics(feed: Feed, topics: tuple[str, ...]) -> None:
    """Let a feed receive other topics, once it is live and between two batches; return when that is so.

    Raises:
        trio.ClosedResourceError: it has ended, or was left.
    """
    while not feed.is_live:
        if feed.is_over:
            raise trio.ClosedResourceError("the subscription has ended")
        if not isinstance(feed.on_live, _LiveSignal):
            feed.on_live = _LiveSignal(feed.on_live)
        await feed.on_live.event.wait()
    is_done = trio.Event()

    def change() -> None:
        feed.change_topics(topics)
        is_done.set()

    feed.when_settled(change)
    await is_done.wait()


@final
class _LiveSignal:
    """What a feed calls when it is live, or ends: it wakes those who wait for that."""

    def __init__(self, before: Callable[[], None] | None) -> None:
        self.event = trio.Event()
        self._before = before

    def __call__(self) -> None:
        self.event.set()
        if self._before is not None:
            self._before()
