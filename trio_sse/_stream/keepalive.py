"""Keepalives for all streams that can be written to without waiting, from one task.

The obvious way is a timer for each stream. But a broadcast writes to all streams at the same moment, so all
their timers would expire together and wake every task of the server at once. And a timer costs more memory
than the rest of an idle stream's bookkeeping. Here one task looks at the streams as they fall due, and lets
others run after every hundred.

The deadlines are lazy: a write only records its time. When a stream falls due, it says when it was last
written to, and is scheduled again.
"""

from __future__ import annotations

import heapq
from typing import Protocol, final

import trio

_WRITES_PER_CHECKPOINT = 100

# Removed entries stay in the heap until there are more than this and more than half of all.
_MOST_REMOVED = 1000


class KeepaliveTarget(Protocol):
    """What the scheduler needs of a stream."""

    def keep_alive(self, now: float) -> float:
        """Write a keepalive if it is due; return when to look again, later than `now`."""


@final
class KeepaliveEntry:
    """A stream's place in the order of deadlines. Keep it to remove it later."""

    __slots__ = ("due", "target")

    def __init__(self, due: float, target: KeepaliveTarget | None) -> None:
        self.due = due
        self.target = target  # `None` once removed: the entry may stay in the heap until it is due

    def __lt__(self, other: KeepaliveEntry) -> bool:
        return self.due < other.due


@final
class KeepaliveScheduler:
    """Writes keepalives for the streams that were added, each at its own time."""

    def __init__(self) -> None:
        self._entries: list[KeepaliveEntry] = []  # a heap
        self._removed = 0  # how many entries of the heap were removed
        self._wake_up = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._entries) - self._removed

    def add(self, target: KeepaliveTarget, due: float) -> KeepaliveEntry:
        """Look at `target` first at the time `due`."""
        entry = KeepaliveEntry(due, target)
        heapq.heappush(self._entries, entry)
        if self._entries[0] is entry:
            self._wake_up.unpark_all()
        return entry

    def remove(self, entry: KeepaliveEntry) -> None:
        """Never look at it again."""
        entry.target = None
        self._removed += 1
        # With an hour between keepalives, or with none, streams end long before they fall due.
        if self._removed > _MOST_REMOVED and self._removed * 2 > len(self._entries):
            self._entries[:] = [entry for entry in self._entries if entry.target is not None]
            heapq.heapify(self._entries)
            self._removed = 0

    async def run(self) -> None:
        """Write keepalives until cancelled."""
        while True:
            due = self._entries[0].due if self._entries else float("inf")
            with trio.move_on_at(due):
                await self._wake_up.park()
            now = trio.current_time()
            looked_at = 0
            while self._entries and self._entries[0].due <= now:
                entry = self._entries[0]
                if entry.target is None:
                    heapq.heappop(self._entries)
                    self._removed -= 1
                    continue
                entry.due = entry.target.keep_alive(now)
                heapq.heapreplace(self._entries, entry)
                looked_at += 1
                if looked_at == _WRITES_PER_CHECKPOINT:
                    looked_at = 0
                    await trio.lowlevel.checkpoint()
                    now = trio.current_time()
