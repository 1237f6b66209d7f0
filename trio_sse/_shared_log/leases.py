"""Leases: functions that run once among the hubs that share a log.

A hub holds a lease for a time, and renews it long before. It stops its function before that time has passed,
by a margin that allows for clocks, for the network and for the function's own end. Only then may another hub
hold the lease. If the log is away for so long, nobody runs the function.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, final

import trio

from .._groups import stray_cancellation_fails
from .._logger import get_logger
from .._process.suspension import seconds_suspended
from .protocol import LeaseSession, Log, LogSession
from .sessions import LogSessions

logger = get_logger("trio_sse.log")

T = TypeVar("T")

#: How long a lease is held, and how long before its end the function is stopped.
LEASE_SECONDS = 10.0
LEASE_MARGIN = 2.5

_RENEW_SECONDS = 2.5
_LOOK_SECONDS = 0.5  # how often the time for which the machine has slept is looked at
_RELEASE_SECONDS = 1.0


@final
class LocalLeases:
    """Lets functions of one name run one after the other in a hub."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.StrictFIFOLock] = {}

    async def run(self, name: str, function: Callable[[], Awaitable[T]]) -> T:
        """Run a function when no other one of this name runs."""
        async with self._alone(name):
            return await function()

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(name, trio.StrictFIFOLock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(name, None)


@final
class SharedLeases:
    """Lets functions of one name run one after the other among all hubs that share a log."""

    def __init__(self, log: Log) -> None:
        self._local = LocalLeases()
        self._log = log

    async def run(self, name: str, function: Callable[[], Awaitable[T]]) -> T:
        """Run a function while this hub holds the lease; begin it again if the lease was lost meanwhile.

        Raises:
            RuntimeError: the log has no leases.
        """
        return await self._local.run(
            name, lambda: _run_with_lease(_Lease(name), LogSessions(self._log), function)
        )


async def _run_with_lease(lease: _Lease, sessions: LogSessions, function: Callable[[], Awaitable[T]]) -> T:
    results: list[T] = []
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep, sessions)
        try:
            while not results:
                await lease.wait_held()
                with lease.scope, stray_cancellation_fails():
                    results.append(await function())
                if lease.scope.cancelled_caught:
                    logger.warning("the lease %r is lost: what runs with it was cancelled", lease.name)
        except Exception as error:  # so that it is raised alone
            failure = error
        finally:
            lease.finish()  # the function has ended: another hub may begin
    if failure is not None:
        raise failure
    return results[0]


@final
class _Lease:
    """One hub's attempt to hold a lease.

    Attributes:
        scope: what runs with the lease; its deadline is when the lease is no longer certain.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.scope = trio.CancelScope()
        self._holder = secrets.token_hex(8)
        self._until = -math.inf  # in Trio's time
        self._failure: Exception | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._is_finished = trio.Event()
        self._keeping = trio.CancelScope(shield=True)

    @property
    def _is_held(self) -> bool:
        return self._until > trio.current_time()

    async def wait_held(self) -> None:
        """Wait until the lease is held, and renew `scope`."""
        while not self._is_held:
            if self._failure is not None:
                raise self._failure
            await self._changed.park()
        self.scope = trio.CancelScope(deadline=self._until)

    def finish(self) -> None:
        """Release the lease, if it is held, and end `keep` soon."""
        self._is_finished.set()
        self._keeping.deadline = trio.current_time() + (_RELEASE_SECONDS if self._is_held else 0)

    async def keep(self, sessions: LogSessions) -> None:
        """Hold the lease whenever that is possible, until `finish` is called.

        It is shielded until then: the lease must be held while a cancelled function cleans up.
        """
        with self._keeping:
            await sessions.keep(self._hold)

    async def _hold(self, session: LogSession) -> None:
        if not isinstance(session, LeaseSession):
            self._failure = RuntimeError("this log has no leases: implement LeaseSession")
            self._changed.unpark_all()
            return
        while True:
            asked_at, slept = trio.current_time(), seconds_suspended()
            if await session.hold(self.name, self._holder, LEASE_SECONDS):
                self._set_until(asked_at + LEASE_SECONDS - LEASE_MARGIN)
            else:
                self._set_until(-math.inf)
            renew_at = asked_at + _RENEW_SECONDS * (1 if self._is_held else 0.4)
            while trio.current_time() < renew_at and not self._is_finished.is_set():
                with trio.move_on_after(min(_LOOK_SECONDS, renew_at - trio.current_time())):
                    await self._is_finished.wait()
                if (now_slept := seconds_suspended()) > slept + 0.1:  # the log's clock has gone on
                    self._set_until(self._until - (now_slept - slept))
                    break
            if self._is_finished.is_set():
                if self._is_held:
                    await session.release(self.name, self._holder)
                return

    def _set_until(self, until: float) -> None:
        self._until = self.scope.deadline = until
        self._changed.unpark_all()
