"""A hub at a shared log: one task appends what is published here, one follows what all have published."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import final

import trio

from .._wire.message import Message
from .follower import LogFollower
from .protocol import Entry, Log, Window
from .publisher import LogPublisher
from .sessions import LogSessions


@final
class Mirror:
    """Keeps a hub's window in step with the shared log, both ways; see `LogFollower` for its arguments."""

    def __init__(
        self,
        log: Log,
        window: Window,
        *,
        bounds: tuple[int, int],
        deliver: Callable[[list[tuple[Entry, Message | None]]], Awaitable[None]],
        after_gap: Callable[[str], None],
        ahead: Callable[[], Collection[object]],
        settle_ahead: Callable[[Collection[object]], None],
    ) -> None:
        self._sessions = LogSessions(log)
        self.publisher = LogPublisher(self._sessions, log.publish_timeout)
        self.follower = LogFollower(
            window,
            bounds=bounds,
            deliver=deliver,
            after_gap=after_gap,
            ahead=ahead,
            settle_ahead=settle_ahead,
            recall=self.publisher.recall,
        )

    async def load(self) -> None:
        """Begin a run: fill the window, if the log can be reached now.

        Raises:
            LogRefused: it refuses to serve.
        """
        self.publisher.begin()
        await self._sessions.try_once(self.follower.load_anew)

    async def run(self, take: Callable[[], Awaitable[list[Message]]]) -> None:
        """Append what `take` gives, and deliver what comes, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publisher.append_all, take)
            nursery.start_soon(self.publisher.sweep)
            nursery.start_soon(self._sessions.keep, self.follower.follow)
