"""Sessions with a shared log, one after the other: when one fails, the next one follows after a back-off."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import final

import trio

from .._backoff import delays
from .._groups import leaf_exceptions, split_failure
from .._logger import get_logger
from .protocol import Log, LogRefused, LogSession, LogUnavailable

logger = get_logger("trio_sse.log")

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
_LOG_AGAIN_SECONDS = 60.0
_MOST_REASONS = 16


@final
class LogSessions:
    """Runs work in sessions of a log.

    Attributes:
        failure: why the last session that failed did so.
        has_warned: a warning of a failure was logged, since this was last reset.
    """

    def __init__(self, log: Log) -> None:
        self.failure = "it has not answered yet"
        self.has_warned = False
        self._log = log
        self._logged: dict[str, float] = {}  # when each reason was logged last, by any of the tasks

    def begin(self) -> None:
        """Begin a run, in which each reason of a failure is logged again."""
        self._logged.clear()

    async def try_once(self, work: Callable[[LogSession], Awaitable[None]]) -> None:
        """Run work in a session if the log can be reached now.

        Raises:
            LogRefused: the log rejects the connection.
        """
        try:
            async with self._log.connect() as session:
                await work(session)
        except BaseException as failure:
            error = _contained(failure)
            if isinstance(error, LogRefused):
                raise error from None
            self.failure = _reason(error)
            logger.warning(
                "the shared log is not available yet: %s", self.failure, exc_info=_unexpected(error)
            )
            self.has_warned = True

    async def keep(
        self, work: Callable[[LogSession], Awaitable[None]], on_failure: Callable[[], None] | None = None
    ) -> None:
        """Run work until it returns; start it again in a new session whenever its session fails."""
        waits = delays(_FIRST_WAIT, _LONGEST_WAIT)
        while True:
            began = trio.current_time()
            try:
                async with self._log.connect() as session:
                    await work(session)
                return
            except BaseException as failure:
                # A refusal midway, for example after a change of the password, may end as an outage does.
                error = _contained(failure)
                self.failure = _reason(error)
                now = trio.current_time()
                if now - began > _LONGEST_WAIT:
                    waits = delays(_FIRST_WAIT, _LONGEST_WAIT)
                if now > self._logged.get(self.failure, -math.inf) + _LOG_AGAIN_SECONDS:
                    logger.warning(
                        "the shared log failed, trying again: %s", self.failure, exc_info=_unexpected(error)
                    )
                    if len(self._logged) >= _MOST_REASONS:
                        self._logged.clear()
                    self._logged[self.failure] = now
                    self.has_warned = True
                if on_failure is not None:
                    on_failure()
            await trio.sleep(next(waits))


def _contained(failure: BaseException) -> BaseException:
    """Return why a session failed: the error that says most of a group; raise what must pass.

    A log may be an application's own. Whatever it raises ends its session only.
    """
    passing, contained = split_failure(failure)
    if passing is not None:
        raise passing
    assert contained is not None
    leaves = leaf_exceptions(contained) if isinstance(contained, BaseExceptionGroup) else [contained]
    for kind in (LogRefused, LogUnavailable):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return contained


def _unexpected(error: BaseException) -> BaseException | None:
    """Return the error if it is none that a log should raise, so that it is logged with its traceback."""
    return None if isinstance(error, LogUnavailable | LogRefused) else error


def _reason(error: BaseException) -> str:
    return f"it raised {type(error).__name__}" if _unexpected(error) else str(error)
