"""What one worker asks another to do: a viewer is served by one worker, and sees the streams of all.

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
_DRAIN = -1  # instead of a stream's number


class WorkerRequest(NamedTuple):
    """Something that a worker is asked for.

    Attributes:
        at: when that was.
        pid: its process.
        id: the number of the stream that is to be ended; `None` if the worker is to drain.
        reconnect: whether the stream's client is to reconnect.
    """

    at: float
    pid: int
    id: int | None
    reconnect: bool


@final
class WorkerRequests:
    """The requests of all workers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._memory = mmap.mmap(-1, _PLACES * _REQUEST.size)
        self._clock = clock

    def add_end(self, pid: int, id: int, *, reconnect: bool) -> None:
        """Ask a process to end a stream."""
        self._add(pid, id, reconnect=reconnect)

    def add_drain(self, pid: int) -> None:
        """Ask a process to drain."""
        self._add(pid, _DRAIN, reconnect=True)

    def _add(self, pid: int, id: int, *, reconnect: bool) -> None:
        place = (id + pid) % _PLACES
        _REQUEST.pack_into(self._memory, place * _REQUEST.size, self._clock(), pid, id, reconnect)

    def take(self, pid: int) -> list[WorkerRequest]:
        """Return what a process is asked for, and forget it."""
        taken = []
        for place, (at, its_pid, id, reconnect) in enumerate(_REQUEST.iter_unpack(self._memory[:])):
            if its_pid == pid:
                _REQUEST.pack_into(self._memory, place * _REQUEST.size, 0.0, 0, 0, False)
                if self._clock() - at < _LONGEST_WAIT:
                    taken.append(WorkerRequest(at, pid, None if id == _DRAIN else id, reconnect))
        return taken
