"""Calls to the store of runs: the sessions of a shared log that has one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar, final

import trio

from .._groups import split_failure
from .._http.exceptions import HTTPException
from .._shared_log.protocol import Log, LogRefused, LogSession, LogUnavailable
from .._shared_log.run_session import RunSession
from .._shared_log.sessions import LogSessions

T = TypeVar("T")

# So many calls are made at one time: a long read does not hold up what runs have added.
_SESSIONS = 2


@final
class RunStoreUnavailable(LogUnavailable, HTTPException):
    """`LogUnavailable` that refuses a request with 503, unless it is caught."""

    def __init__(self, reason: str) -> None:
        HTTPException.__init__(self, 503, f"the shared log is unavailable: {reason}", {"Retry-After": "5"})


class _Call(Generic[T]):
    """Work that waits for a session."""

    def __init__(self, work: Callable[[RunSession], Awaitable[T]]) -> None:
        self.work = work
        self.results: list[T] = []
        self.failure: str | None = None
        self.is_done = trio.Event()

    async def make(self, session: RunSession) -> None:
        self.results.append(await self.work(session))


@final
class RunStore:
    """Makes calls in sessions of a log, each when a session is free.

    Attributes:
        failed_at: when a session has failed last, or has begun after that; in Trio's time.
        outage_at: the same for sessions that had begun before.
    """

    def __init__(self, log: Log) -> None:
        self.failed_at = math.inf
        self.outage_at = -math.inf
        self._has_failed = [False] * _SESSIONS
        self._has_begun = [False] * _SESSIONS
        self._timeout = log.publish_timeout
        self._sessions = LogSessions(log)
        self._calls: deque[_Call[object]] = deque()
        self._changed = trio.lowlevel.ParkingLot()
        self._is_known = trio.Event()
        self._has_runs = False

    async def run(self) -> None:
        """Make calls until cancelled, if the log stores runs."""
        self._sessions.begin()
        self.failed_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(_SESSIONS):
                serve, on_failure = partial(self._serve, number), partial(self._on_failure, number)
                nursery.start_soon(self._sessions.keep, serve, on_failure)

    async def wait_known(self) -> bool:
        """Wait until a session has begun; return whether the log stores runs."""
        await self._is_known.wait()
        return self._has_runs

    async def call(self, work: Callable[[RunSession], Awaitable[T]], *, seconds: float | None = None) -> T:
        """Return what work returns in a session; try it again in another one if that session fails.

        Args:
            work: it can be repeated, since it may have been done although its session has failed.
            seconds: for how long it is tried, if not for as long as something is published.

        Raises:
            LogUnavailable: there was no answer in time.
        """
        call: _Call[T] | None = None
        seconds = self._timeout if seconds is None else seconds
        with trio.move_on_after(seconds):
            while call is None or not call.results:
                call = _Call(work)
                self._calls.append(call)  # type: ignore[arg-type]
                self._changed.unpark()
                try:
                    await call.is_done.wait()
                finally:
                    if not call.is_done.is_set() and call in self._calls:
                        self._calls.remove(call)  # type: ignore[arg-type]
        if call is not None and call.results:
            return call.results[0]
        raise RunStoreUnavailable(f"no answer within {seconds:g} s: {self._sessions.failure}")

    def is_settled(self, seconds: float) -> bool:
        """Whether all nodes could reach the store for so many seconds, as far as this one knows."""
        return trio.current_time() >= self.failed_at + seconds

    def _on_failure(self, number: int) -> None:
        self._has_failed[number] = True
        self.failed_at = trio.current_time()
        if self._has_begun[number]:
            self.outage_at = self.failed_at

    async def _serve(self, number: int, session: LogSession) -> None:
        if self._has_failed[number]:  # it is back from now on, perhaps long after the last attempt
            self._on_failure(number)
            self._has_failed[number] = False
        self._has_begun[number] = True
        self._has_runs = isinstance(session, RunSession)
        self._is_known.set()
        if not isinstance(session, RunSession):
            return
        while True:
            while not self._calls:
                await self._changed.park()
            call = self._calls.popleft()
            try:
                await call.make(session)
            except BaseException as failure:
                passing, _ = split_failure(failure)
                self._on_failure(number)
                if passing is None and not isinstance(failure, LogUnavailable | LogRefused):
                    await trio.lowlevel.checkpoint()
                raise
            finally:
                call.is_done.set()
