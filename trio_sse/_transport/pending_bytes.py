"""What clients that read slowly keep in memory, over all connections: counted and bounded.

A payload that several clients have not taken yet is one object, and counts once. So what counts is what is
really held: a page that is a constant costs the same for one slow reader as for a thousand.
"""

from __future__ import annotations

from types import TracebackType
from typing import cast, final

import trio

#: The default bound.
MAX_PENDING_BYTES = 256 * 1024 * 1024


@final
class PendingBytes:
    """The payloads that wait for clients, of one server or app.

    When there are more bytes than the bound, the sends that have waited longest are cut, until there are not.
    The newest one is never cut: a response that is larger than the bound may be sent, but alone.

    A send that is cut lets go of its payload only when its task runs next. Until then, no handler should make
    another one: of a thousand requests that arrive at once, a thousand responses would be in memory.

    Attributes:
        most: the bound.
        total: how many bytes wait now.
        cut: how many sends were ever cut.
        leaving: how many of them still have their payloads.
    """

    def __init__(self, most: int = MAX_PENDING_BYTES) -> None:
        self.total = 0
        self.cut = 0
        self.leaving = 0
        self.most = most
        self._holders: dict[int, int] = {}  # by the identity of what they hold
        self._waiting: dict[PendingSend, None] = {}  # oldest first
        self._settled = trio.lowlevel.ParkingLot()

    def add(self, send: PendingSend) -> None:
        """Count what a send holds."""
        self._waiting[send] = None
        for held in send.held:
            holders = self._holders.get(id(held), 0)
            self._holders[id(held)] = holders + 1
            if not holders:
                self.total += len(held)
        while self.total > self.most and len(self._waiting) > 1:
            slowest = next(iter(self._waiting))
            self.remove(slowest)
            self.cut += 1
            self.leaving += 1
            slowest.cut()

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


@final
class PendingSend:
    """A context in which a send waits for its client, and is cancelled if it is cut.

    Attributes:
        held: what stays in memory meanwhile.
        is_cut: it has been cancelled, and its connection must be closed.
    """

    __slots__ = ("_counts", "_scope", "held", "is_cut")

    def __init__(self, counts: PendingBytes, *payloads: bytes | memoryview) -> None:
        self.held = [cast(bytes, p.obj) if isinstance(p, memoryview) else p for p in payloads]
        self.is_cut = False
        self._counts = counts
        self._scope = trio.CancelScope()

    def cut(self) -> None:
        """Cancel it."""
        self.is_cut = True
        self._scope.cancel()

    def __enter__(self) -> PendingSend:
        self._scope.__enter__()
        self._counts.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._counts.remove(self)
        if self.is_cut:
            self._counts.on_left()
        return self._scope.__exit__(kind, error, traceback)
