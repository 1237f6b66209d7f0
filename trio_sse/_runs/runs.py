"""`Runs`: starts runs, keeps them, and finds them again."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVarTuple, final

import trio

from .._hub.hub import Hub, engine_of
from .._validate import check_bounds, check_seconds
from .content import RUN_SIZE, RunContent
from .errors import RunGone, RunLimitReached
from .executing import execute
from .flushing import RunFlusher
from .record import RunRecord
from .run import Run
from .status import RunInfo
from .view import RunView

Ts = TypeVarTuple("Ts")

_MIB = 1024 * 1024
_LONGEST_TEXT = 256


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
        max_bytes: how many bytes the texts, events and state of a run may have; see `RunInfo.size`.
        max_kept_bytes: how many bytes of runs that have ended are kept, of which each counts as 2,000 more;
            the oldest are forgotten first.
        max_viewers: how many streams may show one run.
        max_duration: how many seconds a run may take; it then fails.
        cancel_when_unwatched: cancel a run that nobody has watched for so many seconds; `None` for never.
        drain_timeout: how many seconds after a graceful shutdown has begun the runs are cancelled.
        flush_interval: what a run adds within so many seconds is written to its viewers together.

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
    ) -> None:
        check_bounds(1, max_runs=max_runs, max_bytes=max_bytes, max_viewers=max_viewers)
        check_bounds(0, max_kept_bytes=max_kept_bytes)
        if max_runs_per_owner is not None:
            check_bounds(1, max_runs_per_owner=max_runs_per_owner)
        check_seconds(ttl=ttl, max_duration=max_duration, flush_interval=flush_interval)
        check_seconds(drain_timeout=drain_timeout)
        if cancel_when_unwatched is not None:
            check_seconds(cancel_when_unwatched=cancel_when_unwatched)
        self._ttl = ttl
        self._max_runs = max_runs
        self._max_runs_per_owner = max_runs_per_owner
        self._max_bytes = max_bytes
        self._max_kept_bytes = max_kept_bytes
        self._max_viewers = max_viewers
        self._max_duration = max_duration
        self._patience = math.inf if cancel_when_unwatched is None else cancel_when_unwatched
        self._drain_timeout = drain_timeout
        self._flusher = RunFlusher(flush_interval, self._on_end)
        self._records: dict[str, RunRecord] = {}
        self._by_key: dict[tuple[str | None, str], str] = {}
        self._of_owner: dict[str, int] = {}  # how many go on
        self._going_on: dict[RunRecord, None] = {}
        self._kept: dict[RunRecord, float] = {}  # those that have ended, and until when; oldest first
        self._kept_bytes = 0
        self._tasks: trio.Nursery | None = None  # while the hub runs
        self._changed = trio.lowlevel.ParkingLot()
        self._hub = hub
        engine_of(hub).add_service(self)

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
            RuntimeError: the hub does not run.
        """
        check_text("key", key)
        check_text("owner", owner)
        if max_duration is not None:
            check_seconds(max_duration=max_duration)
        await trio.lowlevel.checkpoint()
        if self._tasks is None:
            raise RuntimeError("the hub of these runs does not run: serve first, or start hub.run")
        if key is not None and (known := self._by_key.get((owner, key))) is not None:
            return RunView(self, known)
        self._check_room(owner)
        content = RunContent(secrets.token_urlsafe(16), time.time())
        record = RunRecord(content, owner=owner, key=key, on_watch=self._on_watch)
        record.deadline = trio.current_time() + (max_duration or self._max_duration)
        run = Run(record, self._flusher, self._max_bytes)
        self._tasks.start_soon(partial(execute, record, partial(function, run, *args), self._flusher))
        self._add(record)
        self._on_watch(record)
        return RunView(self, content.id)

    def get(self, id: str) -> RunView:
        """Return how to show a run, by the id that clients have received; it may be gone already."""
        return RunView(self, id)

    async def list(self, *, owner: str | None = None) -> list[RunInfo]:
        """Return all runs that are kept, or those of one owner, oldest first."""
        await trio.lowlevel.checkpoint()
        return [record.info() for record in self._records.values() if owner is None or record.owner == owner]

    # What a hub needs of its services

    async def run(self) -> None:
        """Run the tasks of runs until cancelled; called by the hub."""
        try:
            async with trio.open_nursery() as services:
                services.start_soon(self._flusher.run)
                services.start_soon(self._forget_old_runs)
                async with trio.open_nursery() as self._tasks:
                    try:
                        await trio.sleep_forever()
                    finally:
                        self._tasks = None  # nothing is started in a nursery that ends
        finally:
            self._flusher.finish(list(self._going_on))

    async def finish(self, drained_since: float) -> None:
        """Let runs end within their time, counted from when a graceful shutdown began; called by the hub."""
        with trio.move_on_at(drained_since + self._drain_timeout):
            while self._going_on:
                await self._changed.park()

    # What views need

    @asynccontextmanager
    async def joined(self, id: str) -> AsyncIterator[RunRecord]:
        """Return a run that is kept; entering this raises `RunGone`."""
        yield await self._find(id)

    async def look_up(self, id: str) -> RunInfo:
        """Return what a run is at this moment; raises `RunGone`."""
        return (await self._find(id)).info()

    def check_viewers(self, record: RunRecord) -> None:
        """Raise `RunLimitReached` if a run has as many viewers as it may."""
        if len(record.viewers) >= self._max_viewers:
            raise RunLimitReached(f"the run has its limit of {self._max_viewers} viewers")

    async def cancel(self, id: str, reason: str) -> None:
        """Cancel a run; raises `RunGone`."""
        (await self._find(id)).cancel(reason)

    # Bookkeeping

    async def _find(self, id: str) -> RunRecord:
        await trio.lowlevel.checkpoint()
        record = self._records.get(id)
        if record is None:
            raise RunGone
        return record

    def _check_room(self, owner: str | None) -> None:
        if len(self._going_on) >= self._max_runs:
            raise RunLimitReached(f"the limit of {self._max_runs} runs is reached")
        most = self._max_runs_per_owner
        if owner is not None and most is not None and self._of_owner.get(owner, 0) >= most:
            raise RunLimitReached(f"the limit of {most} runs of one owner is reached", 429)

    def _add(self, record: RunRecord) -> None:
        self._records[record.content.id] = record
        self._going_on[record] = None
        if record.key is not None:
            self._by_key[record.owner, record.key] = record.content.id
        if record.owner is not None:
            self._of_owner[record.owner] = self._of_owner.get(record.owner, 0) + 1

    def _on_end(self, record: RunRecord) -> None:
        if record not in self._going_on:
            return
        del self._going_on[record]
        owner = record.owner
        if owner is not None:
            self._of_owner[owner] -= 1
            if not self._of_owner[owner]:
                del self._of_owner[owner]
        self._kept[record] = trio.current_time() + self._ttl
        self._kept_bytes += record.content.size + RUN_SIZE
        self._changed.unpark_all()

    def _on_watch(self, record: RunRecord) -> None:
        """Begin to count the time for which nobody watches, or stop counting it."""
        if self._patience < math.inf:
            is_watched = len(record.viewers) > 0
            record.unwatched_at = math.inf if is_watched else trio.current_time() + self._patience
        record.set_deadline()

    async def _forget_old_runs(self) -> None:
        while True:
            now = trio.current_time()
            while self._kept:
                oldest = next(iter(self._kept))
                if self._kept[oldest] > now and self._kept_bytes <= self._max_kept_bytes:
                    break
                self._forget(oldest)
            with trio.move_on_at(next(iter(self._kept.values()), math.inf)):
                await self._changed.park()

    def _forget(self, record: RunRecord) -> None:
        del self._kept[record]
        self._kept_bytes -= record.content.size + RUN_SIZE
        del self._records[record.content.id]
        if record.key is not None:
            del self._by_key[record.owner, record.key]


def check_text(name: str, value: object) -> None:
    """Refuse a key or an owner that is not a text of 1 to 256 characters, or `None`."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {type(value).__name__}")
    if not 1 <= len(value) <= _LONGEST_TEXT:
        raise ValueError(f"{name} must have 1 to {_LONGEST_TEXT} characters, not {len(value)}")
