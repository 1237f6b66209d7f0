"""How fast a client takes what waits for it: this decides who is cut when too much waits for all of them.

What is scarce is memory, and what counts is for how long it is held. So a client is slow if it would hold its
payload for too long at its present pace, or if it has taken nothing for a while. A client that never reads is
slow from the beginning; one that takes a part is not. All this only matters while memory is scarce.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, final

import trio

# A client must be fast enough to take all that it holds in this time: for 1 MiB that is 17 KiB/s, about what
# the server expects of a client that sends a body.
_WHOLE_SECONDS = 60.0

# It must take some of it in this time. To a client that reads nothing, the kernel sends a part at first.
_SILENT_SECONDS = 3.0

# The pace is that of so many seconds, up to twice as many.
_RECENT_SECONDS = 5.0


class Progress(NamedTuple):
    """What a client has taken.

    Attributes:
        at: when it last took something.
        taken: how many bytes it has ever taken, whatever the first one was.
        shared: the same of the connection, if that carries several responses.
        sharers: how many of these wait for the connection, this one among them; 0 if it does not.
    """

    at: float
    taken: int
    shared: int = 0
    sharers: int = 0


class Progressing(Protocol):
    """A transport, as far as this needs it."""

    def progress(self) -> Progress:
        """Return what the peer has taken."""


@final
class Pace:
    """The pace at which a client takes one payload.

    Args:
        size: what is held for it, in bytes.

    Attributes:
        began_at: when it began to wait, in Trio's time.
    """

    __slots__ = ("_earlier", "_later", "_size", "_transport", "began_at")

    def __init__(self, transport: Progressing, size: int) -> None:
        progress = transport.progress()
        self.began_at = trio.current_time()
        self._size = max(1, size)
        self._transport = transport
        self._earlier = self._later = (self.began_at, progress.taken, progress.shared)

    def silent_since(self) -> float:
        """Return since when the client has taken nothing."""
        return max(self.began_at, self._transport.progress().at)

    def slow_at(self, now: float) -> float:
        """Return when the client is slow, or since when it has been, if it takes nothing more."""
        progress = self._transport.progress()
        if now >= self._later[0] + _RECENT_SECONDS:
            self._earlier, self._later = self._later, (now, progress.taken, progress.shared)
        since, taken, shared = self._earlier
        taken = progress.taken - taken
        if progress.sharers:  # the responses on a connection have their turns, so each takes its share
            taken = max(taken, (progress.shared - shared) // progress.sharers)
        return min(
            since + taken * _WHOLE_SECONDS / self._size,
            max(self.began_at, progress.at) + _SILENT_SECONDS,
        )
