"""A hub's part in a shared log.

One task appends what is published here, one follows what all publish, and some read what clients have missed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import final

import trio

from .._backoff import delays
from .._logger import get_logger
from .._wire.message import Message
from .follower import LogFollower, LogReaders, ReadEntry
from .history import LogHistory
from .protocol import Log, LogRefused
from .publisher import LogPublisher
from .sessions import LogSessions
from .state_scan import LogStates
from .window import Window

logger = get_logger("trio_sse.log")

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0


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
        states: LogStates,
        deliver: Callable[[Sequence[ReadEntry]], Awaitable[None]],
    ) -> None:
        self._sessions = LogSessions(log)
        self.publisher = LogPublisher(self._sessions, log.publish_timeout)
        self._states = states
        self.history = LogHistory(self._sessions, window)
        self.follower = LogFollower(
            window,
            bounds=bounds,
            readers=readers,
            states=states,
            deliver=deliver,
            own=self.publisher,
            on_follow=self._note_back,
        )
        self._away_since: float | None = None  # in Trio's time

    async def load(self) -> None:
        """Begin a run: fill the window, if the log can be reached now.

        Raises:
            LogRefused: the log rejects the connection.
        """
        self._sessions.begin()
        self.publisher.begin()
        refusal: LogRefused | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publisher.sweep)  # who publishes meanwhile has the usual timeout
            try:
                await self._sessions.try_once(self.follower.start)
            except LogRefused as error:
                refusal = error
            nursery.cancel_scope.cancel()
        if not self.follower.is_following:
            self._note_away()
        if refusal is not None:
            raise refusal

    async def run(self, take: Callable[[], Awaitable[list[Message]]]) -> None:
        """Append the messages that `take` returns, and deliver the log's entries, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.publisher.append_all, take)
                nursery.start_soon(self.publisher.sweep)
                nursery.start_soon(self.publisher.watch)
                nursery.start_soon(self.history.run)
                nursery.start_soon(self._sessions.keep, self.follower.follow, self._on_failure)
                nursery.start_soon(self._find_states)
        finally:
            self.follower.is_following = False

    def _on_failure(self) -> None:
        self._note_away()
        self.follower.note_failure()
        self.publisher.pause()

    def _note_away(self) -> None:
        if self._away_since is None:
            self._away_since = trio.current_time()

    def _note_back(self) -> None:
        """Log that the log can be read again, if a warning has said that it cannot."""
        if self._away_since is not None and self._sessions.has_warned:
            seconds = trio.current_time() - self._away_since
            logger.info("the shared log is available again, after %.1f s", seconds)
        self._away_since = None
        self._sessions.has_warned = False

    async def _find_states(self) -> None:
        """Find states in the log that are declared while the hub runs, or were lost, until cancelled."""
        waits = delays(_FIRST_WAIT, _LONGEST_WAIT)
        while True:
            await self._states.wait_unloaded()
            with suppress(LogRefused):  # logged by the follower's own session
                await self._sessions.try_once(self.follower.find_states)
            if self._states.unloaded():
                await trio.sleep(next(waits))
            else:
                waits = delays(_FIRST_WAIT, _LONGEST_WAIT)
