"""The life of runs: the tasks in which they run, for as long as their hub runs.

A hub outlives the call that runs it while others serve, and its runs outlive that call, too. So their tasks
belong to none of these calls. They are in a nursery of a task of Trio's own, which ends with the hub. The
call that runs the hub does not return before that, unless another one runs it from then on.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import final

import trio

from .._groups import is_cancellation
from .._hub.engine import HubEngine
from .._shared_log.protocol import LogUnavailable
from .._shared_log.run_session import ClaimedRun
from .beginning import ResumedRun, run_in
from .flushing import RunFlusher
from .node import RunNode
from .resumable import ResumableFunctions
from .store import RunStoreUnavailable
from .table import RunTable

# So long may it take to store the ends of runs that were cancelled since the server ends.
_LAST_SECONDS = 2.0

# Runs are cancelled after this part of the time after which a server cuts its streams, so that these can show
# the end. An app's own responses, which may show runs, too, end after 80 %.
_DRAIN_SHARE = 0.75


@final
class LastingTask:
    """A task that goes on when its parent is cancelled, until `end` is called."""

    def __init__(self, act: Callable[[], Awaitable[None]]) -> None:
        self._act = act
        self._scope = trio.CancelScope()
        self._failure: BaseException | None = None
        self._has_ended = trio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._has_ended.is_set()

    def start(self, name: str) -> None:
        """Start it, with the context variables of the caller."""
        trio.lowlevel.spawn_system_task(self._run, name=name, context=contextvars.copy_context())

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._act()
        except BaseException as failure:
            if is_cancellation(failure):  # Trio itself ends
                raise
            self._failure = failure
        finally:
            self._has_ended.set()

    async def wait(self) -> None:
        """Wait until it has ended; raise what it has raised."""
        await self._has_ended.wait()
        failure, self._failure = self._failure, None
        if failure is not None:  # it is raised once
            raise failure

    async def end(self) -> None:
        """Cancel it, and wait until it has ended."""
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self.wait()


@final
class RunsLife:
    """Runs the tasks of runs; a `HubService`.

    Args:
        lease, patience, drain_timeout, max_bytes: as for `Runs`.

    Attributes:
        functions: the resumable functions.
        node: what shares the runs with other nodes; `None` if they are this process's alone.
        is_known: set when that is known.
    """

    def __init__(
        self,
        engine: HubEngine,
        table: RunTable,
        flusher: RunFlusher,
        *,
        lease: float,
        patience: float,
        drain_timeout: float,
        max_bytes: int,
    ) -> None:
        self.functions = ResumableFunctions()
        self.node: RunNode | None = None
        self.is_known = trio.Event()
        self._engine = engine
        self._table = table
        self._flusher = flusher
        self._lease = lease
        self._patience = patience
        self._drain_timeout = drain_timeout
        self._max_bytes = max_bytes
        self._tasks: trio.Nursery | None = None  # while the hub runs
        self._task: LastingTask | None = None  # which has that nursery
        self._began = trio.Event()
        self._is_overdue = False
        table.is_overdue = lambda: self._is_overdue and not engine.services.has_users
        engine.services.add(self)

    # What a hub needs of its services

    async def run(self) -> None:
        """Let runs go on until cancelled; those that have begun go on until `end` is called."""
        if self._task is None or self._task.has_ended:
            self._task = LastingTask(self._run)
            self._task.start("trio_sse runs")
        await self._task.wait()

    async def end(self) -> None:
        """Cancel all runs, and wait until their ends are stored."""
        if self._task is not None:
            await self._task.end()

    def overdue_at(self, drained_since: float, drain_timeout: float) -> float:
        """Return when runs are cancelled, if a server has begun to drain.

        It is before the server cuts its streams, so that their clients receive the end, unless runs may go on
        for longer than the server waits for streams.
        """
        seconds = self._drain_timeout
        if seconds <= drain_timeout:
            seconds = min(seconds, drain_timeout * _DRAIN_SHARE)
        return drained_since + seconds

    def end_overdue(self) -> None:
        """Cancel the runs that go on, and those that begin from now on while nobody else uses the hub."""
        self._is_overdue = True
        for record in self._table.going_on:
            record.shut_down()

    async def finish(self, drained_since: float) -> None:
        """Let runs end within their time, counted from when a graceful shutdown began."""
        with trio.move_on_at(drained_since + self._drain_timeout):
            await self._table.wait_idle()
        if self.node is not None:  # while the hub runs, other nodes learn it at once
            self.end_overdue()
            with trio.move_on_after(_LAST_SECONDS):
                await self._table.wait_idle()

    # What runs need

    async def place(self) -> tuple[RunNode | None, trio.Nursery]:
        """Return where runs are started: the node, if there are others, and the nursery of their tasks.

        Raises:
            RuntimeError: the hub does not run.
            LogUnavailable: it is not known whether its log stores runs.
        """
        if self._engine.inbox.is_open:
            await self._began.wait()  # for the next turns of the loop, at most
        if self._tasks is None:
            raise RuntimeError("the hub of these runs does not run: serve first, or start hub.run")
        if not self.is_known.is_set():
            log = self._engine.shared_log
            with trio.move_on_after(math.inf if log is None else log.publish_timeout):
                await self.is_known.wait()
            if not self.is_known.is_set():
                raise RunStoreUnavailable("it has not answered yet")
            if self._tasks is None:
                raise RuntimeError("the hub of these runs has ended")
        return self.node, self._tasks

    async def place_to_look(self) -> RunNode | None:
        """Return the node, if there are others; raises the same, if there may be others."""
        return None if self._engine.shared_log is None else (await self.place())[0]

    async def _run(self) -> None:
        log = self._engine.shared_log
        if log is None:
            await self._run_tasks()
            return
        node = RunNode(
            log,
            self._engine.signals,
            self._table,
            self._flusher,
            lease=self._lease,
            functions=self.functions.names,
            resume=self._resume,
            tells_watching=self._patience < math.inf,
        )
        async with trio.open_nursery() as lasting:
            sessions = trio.CancelScope(shield=True)  # until the last changes are stored
            lasting.start_soon(run_in, sessions, node.store.run)
            try:
                await self._run_tasks(node)
            finally:
                sessions.deadline = trio.current_time() + _LAST_SECONDS
                with trio.CancelScope(deadline=sessions.deadline, shield=True), suppress(LogUnavailable):
                    await node.leave()  # nothing to do, if it has held no runs
                for record in list(self._table.going_on):
                    self._table.discard(record)
                sessions.cancel()

    async def _run_tasks(self, node: RunNode | None = None) -> None:
        self.is_known = trio.Event()
        self._is_overdue = False
        try:
            async with trio.open_nursery() as services:
                services.start_soon(self._flusher.run)
                services.start_soon(self._table.forget_old_runs)
                async with trio.open_nursery() as self._tasks:
                    self._began.set()
                    try:
                        if node is not None and await node.store.wait_known():
                            self.node = node
                            services.start_soon(node.run)
                        self.is_known.set()
                        await trio.sleep_forever()
                    finally:
                        self._tasks = None  # nothing is started in a nursery that ends
        finally:
            is_shared, self.node = self.node is not None, None
            if not is_shared:
                self._flusher.finish(list(self._table.going_on))

    def _resume(self, claimed: ClaimedRun) -> None:
        """Go on with a run whose node has died."""
        node, tasks = self.node, self._tasks
        if node is None or tasks is None:
            return
        known = self._table.find(claimed.id)
        if known is not None and known in self._table.going_on:  # the store has lost that
            known.lose()
            self._flusher.schedule(known, now=True)
        resumed = ResumedRun(node, self._table, self._flusher, self.functions, claimed, self._max_bytes)
        tasks.start_soon(resumed.run, self._table.on_watch)
