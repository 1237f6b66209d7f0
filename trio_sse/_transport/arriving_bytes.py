"""What has arrived and is not whole yet, over all connections: counted and bounded.

A peer that sends all of a body or message but its last byte costs as much as one that reads nothing of a
response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

from .cut_scope import CutScope

#: Why a request is refused, or a WebSocket closed, that was cut.
TOO_MUCH_ARRIVED = "too much of other requests has arrived"

#: The default bound.
MAX_ARRIVING_BYTES = 256 * 1024 * 1024

# For so long, nothing is taken for fast. So when too much arrives from clients that are alike, the newest are
# cut, and the others become whole.
_FIRST_SECONDS = 1.0


@final
class Arrival:
    """Something that arrives in pieces.

    Attributes:
        size: how many bytes of it are in memory.
        began_at: when its first bytes arrived, in `trio.current_time()`.
        cut: called if too many bytes of others have arrived. It must give up at once what has arrived.
    """

    __slots__ = ("began_at", "cut", "size")

    def __init__(self, cut: Callable[[], None]) -> None:
        self.size = 0
        self.began_at = trio.current_time()
        self.cut = cut


@final
class ArrivingBytes:
    """What arrives, of one server or app.

    When there are more bytes than the bound, those arrivals are cut that are slowest, as an average since
    they began, until there are not. One that withholds its last bytes becomes slower and slower. The one that
    has just grown is never cut.

    Attributes:
        most: the bound.
        total: how many bytes there are now.
        cut: how many arrivals were ever cut.
    """

    def __init__(self, most: int = MAX_ARRIVING_BYTES) -> None:
        self.most = most
        self.total = 0
        self.cut = 0
        self._arrivals: dict[Arrival, None] = {}  # oldest first

    def resize(self, arrival: Arrival, size: int) -> None:
        """Count how much of something is in memory now. It is counted from the first such call to `end`."""
        self._arrivals[arrival] = None
        self.total += size - arrival.size
        arrival.size = size
        while self.total > self.most and len(self._arrivals) > 1:
            slowest = self._slowest_but(arrival)
            self.end(slowest)
            self.cut += 1
            slowest.cut()

    def _slowest_but(self, growing: Arrival) -> Arrival:
        now = trio.current_time()
        others = (arrival for arrival in self._arrivals if arrival is not growing)
        return min(others, key=lambda other: other.size / max(_FIRST_SECONDS, now - other.began_at))

    def end(self, arrival: Arrival) -> None:
        """Count it no longer, unless it was cut."""
        if arrival in self._arrivals:
            del self._arrivals[arrival]
            self.total -= arrival.size
            arrival.size = 0


@final
class ArrivingBody(CutScope):
    """A context in which a body is received. If it is cut, it must be refused."""

    __slots__ = ("_arrival", "_counts")

    def __init__(self, counts: ArrivingBytes) -> None:
        super().__init__()
        self._arrival = Arrival(self.cut)
        self._counts = counts

    def grow(self, size: int) -> None:
        """Count so many bytes more."""
        if not self.is_cut:
            self._counts.resize(self._arrival, self._arrival.size + size)

    def _end(self) -> None:
        self._counts.end(self._arrival)
