"""What has arrived of bodies and is not whole yet, over all connections: counted and bounded.

A peer that sends all of a body but its last byte costs as much as one that reads nothing of a response.
"""

from __future__ import annotations

from types import TracebackType
from typing import final

import trio

#: Why a request is refused whose body was cut.
TOO_MUCH_ARRIVED = "too much of other requests' bodies has arrived"

#: The default bound.
MAX_ARRIVING_BYTES = 256 * 1024 * 1024


@final
class ArrivingBytes:
    """The bodies that arrive, of one server or app.

    When they have more bytes than the bound, those that have taken longest are cut, until they have not. The
    newest one is never cut.

    Attributes:
        most: the bound.
        total: how many bytes there are now.
        cut: how many bodies were ever cut.
    """

    def __init__(self, most: int = MAX_ARRIVING_BYTES) -> None:
        self.most = most
        self.total = 0
        self.cut = 0
        self._bodies: dict[ArrivingBody, None] = {}  # oldest first

    def begin(self, body: ArrivingBody) -> None:
        """Count a body that begins to arrive."""
        self._bodies[body] = None

    def grow(self, body: ArrivingBody, size: int) -> None:
        """Count what has arrived of a body."""
        if body.is_cut:
            return
        body.size += size
        self.total += size
        while self.total > self.most and len(self._bodies) > 1:
            slowest = next(iter(self._bodies))
            self.end(slowest)
            self.cut += 1
            slowest.cut()

    def end(self, body: ArrivingBody) -> None:
        """Count a body no longer, unless it was cut."""
        if body in self._bodies:
            del self._bodies[body]
            self.total -= body.size


@final
class ArrivingBody:
    """A context in which a body is received, and is cancelled if it is cut.

    Attributes:
        size: how many bytes have arrived.
        is_cut: too many bytes of others have arrived, and it must be refused.
    """

    __slots__ = ("_counts", "_scope", "is_cut", "size")

    def __init__(self, counts: ArrivingBytes) -> None:
        self.size = 0
        self.is_cut = False
        self._counts = counts
        self._scope = trio.CancelScope()

    def grow(self, size: int) -> None:
        """Count so many bytes more."""
        self._counts.grow(self, size)

    def cut(self) -> None:
        """Cancel it."""
        self.is_cut = True
        self._scope.cancel()

    def __enter__(self) -> ArrivingBody:
        self._scope.__enter__()
        self._counts.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._counts.end(self)
        return self._scope.__exit__(kind, error, traceback)
