"""What clients that read slowly keep in memory, over all connections: counted and bounded.

A payload that several clients have not taken yet is one object, and counts once. So what counts is what is
really held: a page that is a constant costs the same for one slow reader as for a thousand. It counts in full
until its last reader has taken all of it, as that is how long it stays in memory.

`pace.py` says who is slow, and `response_room.py` lets requests wait before more is made for them.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import cast, final

import trio

from .cut_scope import CutScope
from .pace import Pace, Progressing

#: The default bound.
MAX_PENDING_BYTES = 256 * 1024 * 1024

#: Smaller sends are not cut for being new, if there is a larger one. The output of HTTP/2 is smaller.
LARGE = 128 * 1024

# The newest large send is looked for among so many of the newest.
_NEWEST = 64

# To look at all sends takes a while if there are many. It is done again after this time, or when there are so
# many more that each pays for a few.
_LOOK_SECONDS = 0.25
_LOOKED_AT_BY_EACH = 8

# For so long, no client is taken for slow.
_FIRST_SECONDS = 0.5

# The same while requests can wait for room. The kernel lets us send on only when a third of its buffer is
# free, so slow clients seem to take nothing for a while.
_PATIENT_SECONDS = 2.0


@final
class PendingBytes:
    """The payloads that wait for clients, of one server or app.

    When there are more bytes than the bound, sends to slow clients are cut, until there are not: first those
    that have held the most for the longest. If no client is slow, the newest large send is cut, as the others
    are on their way. One that is larger than the bound may be sent, but alone.

    A send that is cut lets go of its payload only when its task runs next. Until then, no handler should make
    another one: of a thousand requests that arrive at once, a thousand responses would be in memory.

    Attributes:
        most: the bound.
        total: how many bytes wait now.
        cut: how many sends were ever cut.
        leaving: how many of them still have their payloads.
        freed: where a task waits until some bytes do no longer wait.
    """

    def __init__(self, most: int = MAX_PENDING_BYTES) -> None:
        self.total = 0
        self.cut = 0
        self.leaving = 0
        self.most = most
        self.freed = trio.lowlevel.ParkingLot()
        self._holders: dict[int, int] = {}  # by the identity of what they hold
        self._waiting: dict[PendingSend, None] = {}  # oldest first
        self._settled = trio.lowlevel.ParkingLot()
        self._suspects: deque[PendingSend] = deque()  # those that were slow at the last look, to be cut first
        self._looked_at = 0.0
        self._added = 0  # sends since the last look

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not (self._waiting or self.leaving)

    def cost(self, payload: bytes | str) -> int:
        """Return how many bytes more there will be if this payload has to wait."""
        return 0 if id(payload) in self._holders else len(payload)

    def add(self, send: PendingSend) -> None:
        """Count what a send holds."""
        self._waiting[send] = None
        self._added += 1
        for held in send.held:
            holders = self._holders.get(id(held), 0)
            self._holders[id(held)] = holders + 1
            if not holders:
                self.total += len(held)
        while self.total > self.most and len(self._waiting) > 1:
            self._cut(self._slowest() or self._newest_large(send))

    def make_room(self, size: int) -> bool:
        """Cut sends to slow clients until so many bytes more may wait; return whether they may."""
        while self.total + size > self.most:
            slowest = self._slowest()
            if slowest is None:
                return False
            self._cut(slowest)
        return True

    def cut_patiently(self, most: int) -> float:
        """Cut sends to clients that have been slow for a while, until no more bytes than this wait.

        Return when there may be others.
        """
        now = trio.current_time()
        look_at = now + _PATIENT_SECONDS
        for send in self._slow(look_at, _PATIENT_SECONDS):
            slow_at = send.slow_at(now, _PATIENT_SECONDS)
            if slow_at > now:
                look_at = min(look_at, slow_at)
            elif self.total > most:
                self._cut(send)
        return max(look_at, now + _LOOK_SECONDS)

    def _slowest(self) -> PendingSend | None:
        """Return the send that is to be cut first; `None` if no client is slow."""
        now = trio.current_time()
        slowest = self._next_suspect(now)
        if slowest is None and (
            now >= self._looked_at + _LOOK_SECONDS or self._added * _LOOKED_AT_BY_EACH >= len(self._waiting)
        ):
            self._suspects = deque(self._slow(now, _FIRST_SECONDS))
            self._looked_at = now
            self._added = 0
            slowest = self._next_suspect(now)
        return slowest

    def _next_suspect(self, now: float) -> PendingSend | None:
        while self._suspects:
            suspect = self._suspects.popleft()
            if suspect in self._waiting and suspect.slow_at(now, _FIRST_SECONDS) <= now:
                return suspect
        return None

    def _newest_large(self, newest: PendingSend) -> PendingSend:
        newer = islice(reversed(self._waiting), _NEWEST)
        return next((send for send in newer if self._share(send) > LARGE), newest)

    def _slow(self, until: float, patience: float) -> list[PendingSend]:
        """Return the sends that are slow by then if they take nothing more, in the order of cutting."""
        now = trio.current_time()
        slow = [send for send in self._waiting if send.slow_at(now, patience) <= until]
        slow.sort(key=lambda send: self._share(send) * (now - send.pace.silent_since()), reverse=True)
        return slow

    def _share(self, send: PendingSend) -> float:
        """Return how many bytes a send keeps in memory; others may keep the same ones."""
        return sum(len(held) / self._holders[id(held)] for held in send.held)

    def _cut(self, send: PendingSend) -> None:
        self.remove(send)
        self.cut += 1
        self.leaving += 1
        send.cut()

    async def settle(self) -> None:
        """Wait until the sends that are cut have let go of their payloads. Call it before a response is made.

        Those that wait go on one after the other, as the response of each may cause another cut.
        """
        while self.leaving:
            await self._settled.park()
        self._settled.unpark()

    def on_left(self) -> None:
        """Note that a send that was cut has let go of its payload."""
        self.leaving -= 1
        if not self.leaving:
            self._settled.unpark()
            self.freed.unpark()

    def remove(self, send: PendingSend) -> None:
        """Count it no longer, unless it was cut."""
        if send not in self._waiting:
            return
        del self._waiting[send]
        for held in send.held:
            holders = self._holders.pop(id(held)) - 1
            if holders:
                self._holders[id(held)] = holders
            else:
                self.total -= len(held)
        if self.freed:
            self.freed.unpark()


@final
class PendingSend(CutScope):
    """A context in which a send waits for its client. If it is cut, its connection must be closed.

    Attributes:
        held: what stays in memory meanwhile.
        pace: how fast the client takes it.
    """

    __slots__ = ("_counts", "held", "pace")

    def __init__(self, counts: PendingBytes, transport: Progressing, *payloads: bytes | memoryview) -> None:
        super().__init__()
        self.held = [cast(bytes, p.obj) if isinstance(p, memoryview) else p for p in payloads]
        self.pace = Pace(transport, sum(map(len, self.held)))
        self._counts = counts

    def slow_at(self, now: float, patience: float) -> float:
        """Return when the client is slow, if it takes nothing more, and has waited for so long."""
        return max(self.pace.slow_at(now), self.pace.began_at + patience)

    def _begin(self) -> None:
        self._counts.add(self)

    def _end(self) -> None:
        self._counts.remove(self)
        if self.is_cut:
            self._counts.on_left()
