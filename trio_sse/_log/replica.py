"""A hub's part in a shared log: one task appends what is published here, one follows what all publish."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import final

import trio

from .._wire.message import Message
from .follower import LogFollower, LogReaders, ReadEntry
from .protocol import Log, LogRefused
from .publisher import LogPublisher
from .sessions import LogSessions
from .window import Window


@final
class LogReplica:
    """Keeps a hub's window in step with the shared log, both ways; see `LogFollower` for its arguments."""

    def __init__(
        self,
        log: Log,
        window: Window,
        *,
        bounds: tuple[int, int],
        readers: LogReaders,
        deliver: Callable[[Sequence[ReadEntry]], Awaitable[None]],
    ) -> None:
        self._sessions = LogSessions(log)
        self.publisher = LogPublisher(self._sessions, log.publish_timeout)
        self.follower = LogFollower(
            window, bounds=bounds, readers=readers, deliver=deliver, recall=self.publisher.recall
        )

    async def load(self) -> None:
        """Begin a run: fill the window, if the log can be reached now.

        Raises:
            LogRefused: the log rejects the connection.
        """
        self.publisher.begin()
        refusal: LogRefused | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publisher.sweep)  # whoever publishes meanwhile waits no longer than ever
            try:
                await self._sessions.try_once(self.follower.reload)
            except LogRefused as error:
                refusal = error
            nursery.cancel_scope.cancel()
        if refusal is not None:
            raise refusal

    async def run(self, take: Callable[[], Awaitable[list[Message]]]) -> None:
        """Append the messages that `take` returns, and deliver the log's entries, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publisher.append_all, take)
            nursery.start_soon(self.publisher.sweep)
            nursery.start_soon(self._sessions.keep, self.follower.follow)
