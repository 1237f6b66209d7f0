"""The calls of a server's `send` that are under way for one response.

Hypercorn reports a disconnect to its other tasks, and prepares a connection for its next request, in a `send`
of the app. The app must not cancel that because the disconnect was reported to itself first. But some never
return: over HTTP/2, those that wait for the window of a client that has disconnected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import final

import trio

# How long a disconnect waits for a `send` to return, and a `send` goes on after a disconnect.
_SECONDS = 1.0


@final
class SendsUnderWay:
    """Counts calls of `send`, and bounds them when the client has disconnected.

    Args:
        nursery: outlives the app's call. Without one, `watch` does nothing.
    """

    def __init__(self, nursery: trio.Nursery | None = None) -> None:
        self._nursery = nursery
        self._is_watching = False
        self._count = 0
        self._none_left = trio.lowlevel.ParkingLot()
        self._bounded: set[trio.CancelScope] = set()
        self._is_hurried = False

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one, for `wait_returned`."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none_left.unpark_all()

    async def wait_returned(self) -> None:
        """Wait until none is under way, for a short time."""
        with trio.move_on_after(_SECONDS):
            await self._wait_none()

    async def _wait_none(self) -> None:
        while self._count:
            await self._none_left.park()

    def watch(self, notice: Callable[[], Awaitable[None]]) -> None:
        """While any is under way, notice a disconnect: the task that received has stopped."""
        if self._count and self._nursery is not None and not self._is_watching:
            self._is_watching = True
            self._nursery.start_soon(self._watch, notice, name="trio_sse.watch_sends")

    async def _watch(self, notice: Callable[[], Awaitable[None]]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(notice)
                await self._wait_none()
                nursery.cancel_scope.cancel()
        finally:
            self._is_watching = False

    def hurry(self) -> None:
        """Bound those under way, and later ones, now that the client has disconnected."""
        self._is_hurried = True
        for scope in self._bounded:
            self._bound(scope)

    @contextmanager
    def hurried(self, scope: trio.CancelScope) -> Iterator[None]:
        """Enter a scope, which a disconnect bounds."""
        with scope:
            self._bounded.add(scope)
            try:
                if self._is_hurried:
                    self._bound(scope)
                yield
            finally:
                self._bounded.discard(scope)

    def _bound(self, scope: trio.CancelScope) -> None:
        scope.deadline = min(scope.deadline, trio.current_time() + _SECONDS)
