"""The tasks of runs that nodes share: each is stored before it begins, or read before it goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import final

import trio

from .._containment import contained
from .._logger import get_logger
from .._shared_log.protocol import LogUnavailable
from .._shared_log.run_session import ClaimedRun, NewRun, RunBounds
from .content import byte_size
from .errors import RunLimitReached
from .executing import execute
from .flushing import RunFlusher
from .holding import Holding
from .node import RunNode
from .record import RunRecord
from .resumable import ResumableFunctions, decode_arguments
from .run import Run
from .store import RunStoreUnavailable
from .stored import content_of
from .table import RunTable

logger = get_logger("trio_sse.runs")

#: A run without an end is kept in the store for so many seconds more than it may take.
SLACK = 600.0


@final
class StartingRun:
    """A run that is stored, and then begins, also if its caller was cancelled meanwhile.

    A caller that has waited for too long does not know whether the run is stored. If it has a key, it begins
    whenever it is, since the caller may ask for it again, perhaps on another node. Otherwise it never begins.
    """

    def __init__(
        self, node: RunNode, table: RunTable, record: RunRecord, new: NewRun, bounds: RunBounds
    ) -> None:
        self._node = node
        self._table = table
        self._record = record
        self._new = new
        self._bounds = bounds
        self._id: str | None = None
        self._error: Exception | None = None
        self._is_late = False
        self._is_stored = trio.Event()

    async def wait(self, seconds: float) -> str:
        """Return the run's id, or that of the run that has its key; raise what has prevented it."""
        with trio.move_on_after(seconds):
            await self._is_stored.wait()
        if not self._is_stored.is_set():
            self._is_late = True
            raise RunStoreUnavailable(f"the run is not stored within {seconds:g} s")
        if self._error is not None:
            raise self._error
        assert self._id is not None
        return self._id

    async def run(self, act: Callable[[], Awaitable[object]], flusher: RunFlusher) -> None:
        """Store the run and run it."""
        id = self._new.id
        self._node.busy.add(id)
        try:
            try:
                self._id = await self._node.begin(self._new, self._bounds)
            except RunLimitReached as error:
                self._error = error
                return
            if self._id != id:
                return
            if self._is_late and self._new.key is None:
                await self._node.forget(id)
                return
            self._record.holding = Holding(self._new)
            self._table.add(self._record)
            self._is_stored.set()
            await execute(self._record, act, flusher)
        finally:
            if self._id is None and self._error is None:
                self._error = RunStoreUnavailable("the hub has ended")
            self._is_stored.set()
            self._node.busy.discard(id)


@final
class ResumedRun:
    """A run whose node has died, and with which this one goes on."""

    def __init__(
        self,
        node: RunNode,
        table: RunTable,
        flusher: RunFlusher,
        functions: ResumableFunctions,
        claimed: ClaimedRun,
        max_bytes: int,
    ) -> None:
        self._node = node
        self._table = table
        self._flusher = flusher
        self._resumable = functions.named(claimed.function)
        self._claimed = claimed
        self._max_bytes = max_bytes
        node.busy.add(claimed.id)

    async def run(self, on_watch: Callable[[RunRecord], None]) -> None:
        """Read what the run has, and call its function again."""
        try:
            record = None
            with contained("a run cannot be resumed"):
                record = await self._read(on_watch)
            if record is None:
                self._node.give_up()
            else:
                run = Run(record, self._flusher, self._claimed.checkpoint)
                logger.info("the run %s goes on here: attempt %d", run.id[:8], run.attempt)
                await execute(record, partial(self._call, run), self._flusher)
        finally:
            self._node.busy.discard(self._claimed.id)

    async def _call(self, run: Run) -> object:
        return await self._resumable.function(run, *decode_arguments(self._claimed.arguments))

    async def _read(self, on_watch: Callable[[RunRecord], None]) -> RunRecord | None:
        claimed = self._claimed
        try:
            stored = await self._node.read(claimed.id)
        except LogUnavailable:
            stored = None
        if stored is None or stored.attempt != claimed.attempt:
            return None
        record = RunRecord(
            content_of(stored),
            owner=stored.owner,
            key=stored.key,
            on_watch=on_watch,
            max_bytes=self._max_bytes,
        )
        record.checkpoint_size = byte_size(claimed.checkpoint or "")
        new = NewRun(
            *(claimed.id, stored.owner, stored.key, stored.created_at, claimed.seconds, self._table.ttl),
            *(claimed.function, claimed.arguments, self._resumable.attempts),
        )
        record.holding = Holding(new, claimed.attempt, stored.number, claimed.checkpoint)
        record.deadline = trio.current_time() + claimed.seconds - SLACK
        if claimed.cancel_reason is not None:
            record.cancel(claimed.cancel_reason)
        self._table.add(record)
        return record


async def run_in(scope: trio.CancelScope, act: Callable[[], Awaitable[None]]) -> None:
    """Run a function in a scope."""
    with scope:
        await act()
