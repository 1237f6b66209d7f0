"""Whether a shared log takes entries: it may be readable all the same, as a read-only replica is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio

from .protocol import LogSession
from .sessions import LogSessions

_CHECK_AFTER = 0.5  # seconds, in which most failures have passed


@final
class WriteFailure:
    """Appending to a log has failed, and has not succeeded since."""

    def __init__(self, sessions: LogSessions) -> None:
        self._sessions = sessions
        self._happened = trio.Event()

    @property
    def is_set(self) -> bool:
        """Whether it is so."""
        return self._happened.is_set()

    def set(self) -> None:
        """Record that an append has failed."""
        self._happened.set()

    def clear(self) -> None:
        """Record that one has succeeded, or that it is not known any more."""
        if self._happened.is_set():
            self._happened = trio.Event()

    async def watch(
        self,
        append_nothing: Callable[[LogSession], Awaitable[object]],
        wait_readable: Callable[[], Awaitable[None]],
    ) -> None:
        """Find out when the log takes entries again, although nothing is published; until cancelled.

        This has sessions of its own, so that what is published meanwhile is appended as always.
        """

        async def check(session: LogSession) -> None:
            if self.is_set:
                await append_nothing(session)
                self.clear()

        while True:
            await self._happened.wait()
            await trio.sleep(_CHECK_AFTER)
            await wait_readable()
            if self.is_set:
                await self._sessions.keep(check)
