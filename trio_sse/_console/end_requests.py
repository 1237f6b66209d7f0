"""What one worker asks another to end: a viewer is served by one worker, and sees the streams of all.

The requests are in memory that the workers share, if they are forked later. Each worker looks at it once a
second. There are few places, as people end few streams; a request that nobody takes is forgotten.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import NamedTuple, final

_PLACES = 64
_REQUEST = struct.Struct("<dqq?")
_LONGEST_WAIT = 30.0


class EndRequest(NamedTuple):
    """A stream that is to be ended.

    Attributes:
        at: when that was asked for.
        pid, id: its process, and its number there.
        reconnect: whether its client is to reconnect.
    """

    at: float
    pid: int
    id: int
    reconnect: bool


@final
class EndRequests:
    """The requests of all workers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._memory = mmap.mmap(-1, _PLACES * _REQUEST.size)
        self._clock = clock

    def add(self, pid: int, id: int, *, reconnect: bool) -> None:
        """Ask a process to end a stream."""
        place = (id + pid) % _PLACES
        _REQUEST.pack_into(self._memory, place * _REQUEST.size, self._clock(), pid, id, reconnect)

    def take(self, pid: int) -> list[EndRequest]:
        """Return what a process is asked for, and forget it."""
        taken = []
        for place, values in enumerate(_REQUEST.iter_unpack(self._memory[:])):
            request = EndRequest(*values)
            if request.pid == pid:
                _REQUEST.pack_into(self._memory, place * _REQUEST.size, 0.0, 0, 0, False)
                if self._clock() - request.at < _LONGEST_WAIT:
                    taken.append(request)
        return taken
