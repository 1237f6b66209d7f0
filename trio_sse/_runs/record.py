"""One run on the node that runs it, or that shows it: everything that belongs to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import final

import trio

from .content import RunContent
from .errors import RunTooLarge
from .holding import Holding
from .status import RunEnd, RunInfo, RunStatus
from .viewing import Viewers
from .writing import PendingChanges, apply


@final
class RunRecord:
    """One run.

    Attributes:
        content: its output so far.
        owner, key: what was passed to `Runs.start`.
        max_bytes: how many bytes it may have.
        checkpoint_size: the bytes of its newest checkpoint.
        holding: its place in the store of this node's runs, if nodes share one.
        users: how many look at it.
        viewers: the streams of this node that show it.
        pending: what waits to become a part of the content.
        scope: the scope of its function; its deadline follows from `deadline`, and from who watches.
        deadline: when it has run for too long, in Trio's time.
        cancel_reason: why `cancel` was called.
        flushed_at: when its content was last changed, in Trio's time.
        is_scheduled: whether a flush of it is due at some time.
        is_shut_down: it was cancelled since its server ends.
    """

    __slots__ = (
        "_flushed",
        "cancel_reason",
        "checkpoint_size",
        "content",
        "deadline",
        "flushed_at",
        "holding",
        "is_scheduled",
        "is_shut_down",
        "key",
        "max_bytes",
        "owner",
        "pending",
        "scope",
        "unwatched_at",
        "users",
        "viewers",
    )

    def __init__(
        self,
        content: RunContent,
        *,
        owner: str | None,
        key: str | None,
        on_watch: Callable[[RunRecord], None],
        max_bytes: float = math.inf,
    ) -> None:
        self.content = content
        self.owner = owner
        self.key = key
        self.max_bytes = max_bytes
        self.checkpoint_size = 0
        self.viewers = Viewers(content, lambda: on_watch(self))
        self.holding: Holding | None = None
        self.users = 0
        self.pending = PendingChanges()
        self.scope = trio.CancelScope()
        self.deadline = math.inf
        self.unwatched_at = math.inf  # when it is cancelled unless somebody watches
        self.cancel_reason: str | None = None
        self.flushed_at = -math.inf
        self.is_scheduled = False
        self.is_shut_down = False
        self._flushed = trio.lowlevel.ParkingLot()

    @property
    def is_over(self) -> bool:
        """Whether its function has ended, so that nothing can be added."""
        return self.content.end is not None

    @property
    def held(self) -> Holding:
        """Its place in the store, where it has one."""
        assert self.holding is not None
        return self.holding

    @property
    def is_lost(self) -> bool:
        """Whether this node does not hold it any more, so that nothing of it can be stored."""
        return self.holding is not None and self.holding.is_lost

    def has_room(self, size: int) -> bool:
        """Whether it may have so many bytes more; what is pending counts, also if it replaces a state."""
        return self.content.size + self.pending.size + self.checkpoint_size + size <= self.max_bytes

    def check_room(self, size: int) -> None:
        """Raise `RunTooLarge` if it may not have so many bytes more."""
        if not self.has_room(size):
            raise RunTooLarge(f"a run has at most {self.max_bytes} bytes")

    def lose(self) -> None:
        """Cancel its function, and add nothing more: it is not this node's any more."""
        self.held.is_lost = True
        self.scope.cancel()

    def cancel(self, reason: str) -> None:
        """Cancel its function, unless it has ended or was cancelled already."""
        if self.cancel_reason is None and not self.is_over:
            self.cancel_reason = reason
            self.scope.cancel()

    def shut_down(self) -> None:
        """Cancel its function, since its server ends."""
        self.is_shut_down = True
        self.scope.cancel()

    def set_deadline(self) -> None:
        """Let its scope end it at the earlier of its two deadlines."""
        self.scope.deadline = min(self.deadline, self.unwatched_at)

    def end(self, status: RunStatus, reason: str | None = None, result: str | None = None) -> None:
        """Add its end to what is pending; it is the last change. A run that is lost has no end here."""
        if self.is_lost:
            return
        self.pending.add(RunEnd(status, reason, result, time.time()), 0)

    def apply_pending(self) -> None:
        """Make what is pending a part of the content, and wake who waits for that; there is no checkpoint."""
        pending = self.pending
        apply(self.content, pending.take() if self.holding is None else pending.take_held())
        if self._flushed:
            self._flushed.unpark_all()

    def clear(self) -> None:
        """Forget the content, which is read anew; let viewers begin anew. There is no checkpoint."""
        self.content.clear()
        self.viewers.begin_anew()

    def wake(self) -> None:
        """Wake who waits: its content was changed."""
        self._flushed.unpark_all()

    async def wait_flushed(self) -> None:
        """Wait until something has become a part of the content."""
        await self._flushed.park()

    async def wait_ended(self) -> RunEnd:
        """Wait until it has ended."""
        while self.content.end is None:
            await self._flushed.park()
        return self.content.end

    def info(self) -> RunInfo:
        """Return what it is at this moment."""
        content, end = self.content, self.content.end
        return RunInfo(
            id=content.id,
            owner=self.owner,
            status=content.status,
            reason=None if end is None else end.reason,
            created_at=content.created_at,
            ended_at=None if end is None else end.at,
            viewers=len(self.viewers),
            size=content.size + self.pending.size,
        )
