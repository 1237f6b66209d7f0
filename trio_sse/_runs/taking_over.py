"""Taking over the runs of nodes that have died: they end as lost, or this node goes on with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import final

import trio

from .._logger import get_logger
from .._shared_log.protocol import LogUnavailable
from .._shared_log.run_session import ClaimedRun, RunSession, TakenOver
from .lease import NodeLease
from .signals import RunSignals
from .status import RunEnd, RunStatus
from .store import RunStore
from .stored import encode_end

logger = get_logger("trio_sse.runs")

# How often other nodes' leases are looked at, in parts of this node's lease.
_LOOK = 0.1

# So many runs are taken over at one time, so that other nodes have their share of those that can be resumed.
_MOST_AT_ONCE = 20


@final
class RunTakeOver:
    """Looks for runs whose node has died.

    After an outage of the store, it waits until all other nodes can have renewed their leases. What nodes
    have released, it takes at once.

    Args:
        functions: the names of the functions that this node can go on with.
        resume: called with each run that this node has claimed.
        on_doubt: called when this node may have claimed some without knowing it.
    """

    def __init__(
        self,
        store: RunStore,
        lease: NodeLease,
        signals: RunSignals,
        *,
        functions: Collection[str],
        resume: Callable[[ClaimedRun], None],
        on_doubt: Callable[[], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._signals = signals
        self._functions = functions
        self._resume = resume
        self._on_doubt = on_doubt
        self._must_look = trio.lowlevel.ParkingLot()

    def look(self) -> None:
        """Look soon."""
        self._must_look.unpark_all()

    async def run(self) -> None:
        """Take runs over until cancelled."""
        while True:
            with trio.move_on_after(self._lease.seconds * _LOOK):
                await self._must_look.park()
            try:
                await self._take_over()
            except LogUnavailable:
                self._on_doubt()

    async def _take_over(self) -> None:
        lease = self._lease
        end = encode_end(RunEnd(RunStatus.LOST, "its node died", None, time.time()))
        functions = list(self._functions)
        arguments = (lease.holder, lease.seconds, functions, end, _MOST_AT_ONCE)
        asked_at = lease.now()

        async def work(session: RunSession) -> TakenOver:  # it may wait until an outage has ended
            released_only = not self._store.is_settled(lease.seconds)
            return await session.take_over_runs(*arguments, released_only=released_only)

        taken = await self._store.call(work, seconds=lease.seconds)
        if taken.claimed:
            lease.renewed(asked_at)
        if taken.lost:
            logger.warning("%d runs are lost: their node has died", len(taken.lost))
        self._signals.changed([*taken.lost, *taken.cancelled, *(run.id for run in taken.claimed)])
        for run in taken.claimed:
            self._resume(run)
