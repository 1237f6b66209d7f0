"""`Runs`: starts runs, keeps them, and finds them again."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar, TypeVarTuple, final, overload

import trio

from .._hub.hub import Hub, engine_of
from .._shared_log.run_session import NewRun, RunBounds
from .._validate import check_bounds, check_seconds
from .beginning import SLACK, StartingRun
from .checks import check_id, check_lease, check_text
from .content import RunContent
from .errors import RunGone, RunLimitReached
from .executing import execute
from .flushing import RunFlusher
from .life import RunsLife
from .node import RunNode
from .record import RunRecord
from .resumable import ResumableFunctions, encode_arguments
from .run import Run
from .status import RunInfo
from .table import RunTable
from .view import RunView

Ts = TypeVarTuple("Ts")
ResumableFunction = TypeVar("ResumableFunction", bound=Callable[..., Awaitable[object]])

_MIB = 1024 * 1024


@final
class Runs:
    """Runs work that goes on without its connection, and shows it to those who join.

    Each run is a task of its own. It is not cancelled when clients disconnect, but by `RunView.cancel`, at
    its longest duration, and with the hub's end. So no run outlives the server that runs the hub.

    You can create it at import time. Runs can be started while the hub runs.

    Args:
        hub: whose lifetime the runs share.
        ttl: how many seconds a run is kept after its end, so that clients receive the rest and the end.
        max_runs: how many runs may be going on.
        max_runs_per_owner: how many of one owner.
        max_bytes: how many bytes the texts, events and state of a run may have, as in `RunInfo.size`, with
            its newest checkpoint and its result.
        max_kept_bytes: how many bytes of runs that have ended are kept, with their results and reasons, of
            which each counts as 2,000 more; the oldest are forgotten first.
        max_viewers: how many streams may show one run.
        max_duration: how many seconds a run may take; it then fails.
        cancel_when_unwatched: cancel a run that nobody has watched for so many seconds; `None` for never.
        drain_timeout: how many seconds after a graceful shutdown has begun the runs are cancelled. If the
            server's is not shorter, they are cancelled after 75 % of that, at the latest, so that viewers
            receive the end.
        flush_interval: what a run adds within so many seconds is written together; 0.25 under load.
        lease: over a shared log, after how many seconds a run ends as lost whose node has died; 1 to 600.

    Raises:
        TypeError, ValueError: a bound is not acceptable.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        ttl: float = 3600.0,
        max_runs: int = 1000,
        max_runs_per_owner: int | None = None,
        max_bytes: int = _MIB,
        max_kept_bytes: int = 256 * _MIB,
        max_viewers: int = 1000,
        max_duration: float = 3600.0,
        cancel_when_unwatched: float | None = None,
        drain_timeout: float = 10.0,
        flush_interval: float = 0.03,
        lease: float = 10.0,
    ) -> None:
        check_bounds(1, max_runs=max_runs, max_bytes=max_bytes, max_viewers=max_viewers)
        check_bounds(0, max_kept_bytes=max_kept_bytes)
        if max_runs_per_owner is not None:
            check_bounds(1, max_runs_per_owner=max_runs_per_owner)
        check_seconds(ttl=ttl, max_duration=max_duration, flush_interval=flush_interval)
        check_seconds(drain_timeout=drain_timeout, lease=lease)
        check_lease(lease)
        if cancel_when_unwatched is not None:
            check_seconds(cancel_when_unwatched=cancel_when_unwatched)
        patience = math.inf if cancel_when_unwatched is None else cancel_when_unwatched
        self._ttl = ttl
        self._bounds = RunBounds(max_runs, max_runs_per_owner)
        self._max_bytes = max_bytes
        self._max_viewers = max_viewers
        self._max_duration = max_duration
        self._table = RunTable(ttl=ttl, max_kept_bytes=max_kept_bytes, patience=patience)
        self._flusher = RunFlusher(flush_interval, self._table.end)
        self._hub = hub
        self._life = RunsLife(
            *(engine_of(hub), self._table, self._flusher),
            lease=lease,
            patience=patience,
            drain_timeout=drain_timeout,
            max_bytes=max_bytes,
        )

    # For applications

    @property
    def hub(self) -> Hub:
        """The hub whose lifetime the runs share."""
        return self._hub

    async def start(
        self,
        function: Callable[[Run, *Ts], Awaitable[object]],
        *args: *Ts,
        key: str | None = None,
        owner: str | None = None,
        max_duration: float | None = None,
    ) -> RunView:
        """Start a run of `function(run, *args)`, and return how to show it.

        What the function returns is the run's result: a JSON value, or `None` for no result. If it raises,
        the run has failed, and the exception is logged. The text of a `RunFailed` is sent to clients;
        no other is.

        Args:
            key: 1 to 256 characters that say what is to be done, such as an idempotency key of a request. As
                long as a run of this owner with this key is kept, that run is returned instead.
            owner: who it is for, such as a user's id.
            max_duration: how many seconds it may take, if not as long as other runs.

        Raises:
            TypeError, ValueError: an argument is not acceptable.
            RunLimitReached: too many runs are going on.
            LogUnavailable: the shared log has not stored the run within its `publish_timeout`. If it is not
                caught, the request is answered with 503.
            RuntimeError: the hub does not run.

        If this is cancelled, the run may have been started; also after `LogUnavailable`, if it has a key.
        """
        check_text("key", key)
        check_text("owner", owner)
        if max_duration is not None:
            check_seconds(max_duration=max_duration)
        await trio.lowlevel.checkpoint()
        node, tasks = await self._life.place()
        if node is None and key is not None and (known := self._table.find_key(owner, key)) is not None:
            return RunView(self, known)
        seconds = max_duration or self._max_duration
        content = RunContent(secrets.token_urlsafe(16), time.time())
        record = RunRecord(
            content, owner=owner, key=key, on_watch=self._table.on_watch, max_bytes=self._max_bytes
        )
        record.deadline = trio.current_time() + seconds
        run = Run(record, self._flusher)
        act = partial(function, run, *args)
        if node is None:
            self._table.check_room(owner, self._bounds)
            tasks.start_soon(execute, record, act, self._flusher)
            self._table.add(record)
            return RunView(self, content.id)
        new = NewRun(content.id, owner, key, content.created_at, seconds + SLACK, self._ttl)
        if (resumable := self._life.functions.find(function)) is not None:
            new = new._replace(function=resumable.name, attempts=resumable.attempts)
            new = new._replace(arguments=encode_arguments(args))
        starting = StartingRun(node, self._table, record, new, self._bounds)
        tasks.start_soon(starting.run, act, self._flusher)
        return RunView(self, await starting.wait(node.timeout))

    @overload
    def resumable(self, function: ResumableFunction, /) -> ResumableFunction: ...

    @overload
    def resumable(
        self, *, name: str | None = None, max_attempts: int = 3
    ) -> Callable[[ResumableFunction], ResumableFunction]: ...

    def resumable(
        self, function: ResumableFunction | None = None, *, name: str | None = None, max_attempts: int = 3
    ) -> ResumableFunction | Callable[[ResumableFunction], ResumableFunction]:
        """Let other nodes go on with runs of a function when their node has died; a decorator.

        Its arguments must be JSON values. It is called with them again, and finds in `run.checkpoint_value`
        what it has stored by `run.checkpoint`, and in `run.text()` what it has written. Each node must have
        the function. Without a shared log, the function is not resumed.

        Args:
            name: what other nodes know it by; by default its name in the program.
            max_attempts: how many nodes may die with a run; it is then lost.

        Raises:
            TypeError, ValueError: the name or bound is not acceptable, or the name is taken.
        """

        def add(function: ResumableFunction) -> ResumableFunction:
            self._life.functions.add(function, name, max_attempts)
            return function

        return add if function is None else add(function)

    def get(self, id: str) -> RunView:
        """Return how to show a run, by the id that clients have received; it may be gone already."""
        return RunView(self, id)

    async def list(self, *, owner: str | None = None) -> list[RunInfo]:
        """Return all runs that are kept, or those of one owner, oldest first.

        Over a shared log, these are the runs of all nodes, the newest 1,000.
        """
        await trio.lowlevel.checkpoint()
        if (node := await self._life.place_to_look()) is not None:
            return await node.list(owner)
        return [record.info() for record in self._table.all() if owner is None or record.owner == owner]

    # What views need

    @asynccontextmanager
    async def joined(self, id: str, cursor: str | None = None) -> AsyncIterator[RunRecord]:
        """Return a run that is kept; entering this raises `RunGone`."""
        node = await self._place_to_look(id)
        if node is None:
            yield await self._find(id)
            return
        async with node.joined(id, cursor) as record:
            yield record

    async def look_up(self, id: str) -> RunInfo:
        """Return what a run is at this moment; raises `RunGone`."""
        node = await self._place_to_look(id)
        return (await self._find(id)).info() if node is None else await node.look_up(id)

    def check_viewers(self, record: RunRecord) -> None:
        """Raise `RunLimitReached` if a run has as many viewers as it may."""
        if len(record.viewers) >= self._max_viewers:
            raise RunLimitReached(f"the run has its limit of {self._max_viewers} viewers")

    async def cancel(self, id: str, reason: str) -> None:
        """Cancel a run; raises `RunGone`."""
        node = await self._place_to_look(id)
        if node is None:
            (await self._find(id)).cancel(reason)
        else:
            await node.cancel(id, reason)

    async def _find(self, id: str) -> RunRecord:
        await trio.lowlevel.checkpoint()
        record = self._table.find(id)
        if record is None:
            raise RunGone
        return record

    async def _place_to_look(self, id: str) -> RunNode | None:
        check_id(id)
        return await self._life.place_to_look()


def functions_of(runs: Runs) -> ResumableFunctions:
    """Return the resumable functions, for the other packages of trio_sse."""
    return runs._life.functions
