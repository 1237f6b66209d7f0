"""The snapshots that all viewers of the console receive: each is computed and encoded once.

There is no task of its own. Of the viewers that wait for the next snapshot, one computes it, and the others
wait for that one; if it is cancelled, another one does it. So nothing is computed while nobody watches, and
nothing has to be started and stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import islice
from typing import final

import trio

from .._pausing import Pausing, timed_in_pieces
from .history import History
from .source import ConsoleSource

_INTERVAL = 1.0

# A server with so many streams that a snapshot takes long is shown less often: at most this share of its CPU
# time goes into snapshots.
_MOST_SHARE = 1 / 50

# A viewer that comes later receives a new snapshot instead of the last one.
_STALE_SECONDS = 1.5

_POINTS_AT_ONCE = 60


@final
class Feed:
    """Computes snapshots.

    Attributes:
        computed: how many were computed.
        text: the newest one, encoded.
    """

    def __init__(
        self, source: ConsoleSource, history: History, clock: Callable[[], float] = time.time
    ) -> None:
        self.computed = 0
        self.text = ""
        self._source = source
        self._history = history
        self._clock = clock
        self._is_computing = False
        self._due_at = self._computed_at = float("-inf")
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def is_fresh(self) -> bool:
        """Whether somebody watches it."""
        return trio.current_time() - self._computed_at <= 2 * _STALE_SECONDS

    def begin(self) -> int:
        """Return after which snapshot a new viewer begins: before the newest one, unless that is stale."""
        is_stale = trio.current_time() - self._computed_at > _STALE_SECONDS
        return self.computed if is_stale else self.computed - 1

    async def next(self, seen: int) -> int:
        """Wait until there is a newer snapshot than the one with this number; return its number."""
        while self.computed <= seen:
            if self._is_computing:
                await self._waiting.park()
            else:
                await self._compute()
        return self.computed

    async def _compute(self) -> None:
        self._is_computing = True
        try:
            await trio.sleep_until(self._due_at)
            began_at = trio.current_time()
            snapshot, seconds = await timed_in_pieces(self._source.snapshot())
            now = snapshot["at"] = round(self._clock(), 3)
            snapshot["interval"] = interval = max(_INTERVAL, seconds / _MOST_SHARE)
            self._history.add(now, snapshot["totals"])
            snapshot["sample"] = self._history.latest(now)
            self.text = json.dumps(snapshot, separators=(",", ":"))
            self.computed += 1
            self._computed_at = began_at
            self._due_at = began_at + interval
        finally:
            self._is_computing = False
            self._waiting.unpark_all()

    def history(self) -> Pausing[str]:
        """Encode the charts' points of the last minutes."""
        parts = []
        samples = self._history.samples(self._clock())
        while chunk := list(islice(samples, _POINTS_AT_ONCE)):
            parts.append(json.dumps(chunk, separators=(",", ":"))[1:-1])
            yield
        return f'{{"samples":[{",".join(parts)}]}}'
