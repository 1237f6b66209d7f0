"""One call of `serve` or its kin: the scopes that its connections live in, and the order in which they go.

It has this shape, and `run` doesn't return before all that is inside has ended::

    the call's nursery
        the support, shielded: the hub, keepalives, hang-ups
        the connections' nursery
            the acceptor
            one task for each connection

The support outlives the connections, so that a handler which is cancelled can still publish while it cleans
up. Its shield ends with the connections' nursery, and at the latest after the drain time.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, final

import trio

from .._hub.hub import engine_of
from .coalescer import WriteCoalescer
from .disconnects import DisconnectWatcher
from .end_reason import EndReason
from .keepalive import KeepaliveScheduler
from .manager import StreamManager

if TYPE_CHECKING:
    from .connection import Connection

# Draining ends this many streams a second, or more if the drain time asks for it: 10 of them end at once
# for the eye, and 10,000 don't come back in one rush.
_ENDS_PER_SECOND = 1000
_ENDS_SHARE = 0.8
_ENDS_AT_ONCE = 10


async def end_streams(streams: Sequence[Connection], *, drain_timeout: float) -> None:
    """Tell streams to end, spread over a part of the drain time; their clients come back."""
    seconds = min(len(streams) / _ENDS_PER_SECOND, drain_timeout * _ENDS_SHARE)
    for number, connection in enumerate(streams, start=1):
        connection.end(EndReason.SERVER_SHUTDOWN)
        if number % _ENDS_AT_ONCE == 0:
            await trio.sleep(seconds / len(streams) * _ENDS_AT_ONCE)


@final
class ServeScope:
    """What the connections of one call share.

    Attributes:
        connections: the nursery of their tasks, while `run` runs.
        accepting: the scope that accepts them; the call ends when it does and they have ended.
        waiting: the scopes of those that wait for a request.
        streams: the streams that are open, oldest first, those of apps among them.
        is_draining: no further request is answered.
        is_cancelled: the call was cancelled from outside: every stream of it ends.
        keepalives: writes keepalives for streams on sockets.
        coalescer: joins what handlers send in one go.
        disconnects: notices their peers' hang-ups; `None` where the platform has no `epoll`.
        ended: set when all connections have ended.
    """

    connections: trio.Nursery

    def __init__(self, manager: StreamManager, *, drain_timeout: float) -> None:
        self.manager = manager
        self.accepting = trio.CancelScope()
        self.waiting: set[trio.CancelScope] = set()
        self.streams: dict[Connection, None] = {}
        self.is_draining = False
        self.is_cancelled = False
        self.keepalives = KeepaliveScheduler()
        self.coalescer = WriteCoalescer()
        self.disconnects: DisconnectWatcher | None = None
        self.ended = trio.Event()
        self._drain_timeout = drain_timeout
        self._services_scope = trio.CancelScope(shield=True)
        self._hub_start_scope = trio.CancelScope()

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`, which starts tasks in `connections`, and wait for all of them."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.wait_cancelled)
            # If this is cancelled already, Trio would leave the support where it starts, and wait there
            # for ever, as it is shielded. So is its start, in which only the hub's waits, for a shared log:
            # a cancellation ends that.
            with trio.CancelScope(shield=True):
                await nursery.start(self._services)
            try:
                await self._serve(work)
            finally:
                self._services_scope.cancel()
            nursery.cancel_scope.cancel()

    async def _serve(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with trio.open_nursery() as self.connections:
                self.manager.serve_scopes[self] = None
                await work()
        finally:
            self.manager.serve_scopes.pop(self, None)
            self.ended.set()

    def stop_accepting(self) -> None:
        """Accept no more connections, and let go of those that carry no stream."""
        self.is_draining = True
        self.accepting.cancel()
        for scope in self.waiting:
            scope.cancel()

    async def _services(self, *, task_status: trio.TaskStatus[None]) -> None:
        with self._services_scope:
            async with trio.open_nursery() as nursery:
                with self._hub_start_scope:
                    await nursery.start(self._keep_hub)
                nursery.start_soon(self.keepalives.run)
                nursery.start_soon(self.coalescer.run)
                if hasattr(select, "epoll"):
                    self.disconnects = DisconnectWatcher()
                    nursery.start_soon(self.disconnects.run)
                task_status.started()

    async def _keep_hub(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the hub unless somebody does, another call, say; take it over when they stop."""
        hub = self.manager.hub
        if hub.is_running:
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
        while True:
            await engine_of(hub).wait_ended()
            await hub.run(task_status=task_status)

    async def wait_cancelled(self) -> NoReturn:
        """Sleep until cancelled, and set `is_cancelled` before any other task gets to see the cancellation.

        Trio calls the abort functions of all waiting tasks when a scope is cancelled, and only then runs
        the first of them. So a stream that is cancelled with the call knows why, in its `finally`.
        """
        await trio.lowlevel.wait_task_rescheduled(self._note_cancelled)
        raise AssertionError("nobody wakes this task")

    def _note_cancelled(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self.is_cancelled = True
        self._hub_start_scope.cancel()
        self._services_scope.deadline = trio.current_time() + self._drain_timeout
        return trio.lowlevel.Abort.SUCCEEDED
