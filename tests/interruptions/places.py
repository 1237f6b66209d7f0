"""Where a scenario is interrupted, and by what."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from enum import Enum
from typing import final

import trio


@final
class Place(Enum):
    """What is interrupted, or how; the value is its name."""

    # At a step of the server's tasks
    CONNECTION = "connection"  # its task is cancelled
    HANDLER = "handler"  # it is cancelled by its own code, or by middleware
    HUB = "hub"  # is cancelled, and run again
    SERVER = "server"  # is cancelled, and served again
    RUN = "run"  # everything is cancelled
    DISCONNECT = "disconnect"  # the client closes
    RESET = "reset"  # the client resets
    END = "end"  # the server ends the streams
    DRAIN = "drain"  # the server shuts down gracefully

    # At a step of a client's tasks
    CLIENT = "client"  # what it does is cancelled, and done again

    # At an operation on a connection, of the server or of a client
    BROKEN = "broken"  # BrokenResourceError
    CLOSED = "closed"  # ClosedResourceError
    OS_ERROR = "oserror"  # OSError
    SHORT = "short"  # a part is written, or read; then the connection is broken

    # At an operation of a shared log
    LOG = "log"  # it raises LogUnavailable

    # At a call of users' code
    ERROR = "error"  # it raises an exception
    PANIC = "panic"  # it raises a BaseException


OF_STEPS = frozenset(
    {
        *(Place.CONNECTION, Place.HANDLER, Place.HUB, Place.SERVER, Place.RUN),
        *(Place.DISCONNECT, Place.RESET, Place.END, Place.DRAIN),
        Place.CLIENT,
    }
)
OF_OPERATIONS = frozenset({Place.BROKEN, Place.CLOSED, Place.OS_ERROR, Place.SHORT})
OF_CODE = frozenset({Place.ERROR, Place.PANIC})

#: Places of one kind are counted alike: one run of a scenario counts them all. The others are of no kind.
COUNTED_AS = {
    **dict.fromkeys(OF_STEPS - {Place.CONNECTION, Place.CLIENT}, Place.END),
    **dict.fromkeys(OF_OPERATIONS, Place.BROKEN),
    **dict.fromkeys(OF_CODE, Place.ERROR),
}

#: After these, nothing is served any more.
ENDS_SERVER = frozenset({Place.SERVER, Place.RUN, Place.DRAIN})


@final
class Trigger:
    """Counts the steps, operations or calls at which a case may be interrupted, and says which one it is.

    Attributes:
        count: how many there were.
        checkpoints: what code each of them was in, if that is to be recorded.
        has_happened: whether there were enough.
    """

    def __init__(self, place: Place, number: int, *, records: bool = False) -> None:
        self.place = place
        self.count = 0
        self.checkpoints: list[int] | None = [] if records else None
        self.has_happened = False
        self.is_armed = False
        self._number = number

    def hit(self, task: trio.lowlevel.Task | None = None) -> bool:
        """Count one, which is a step of a task or the code that runs; return whether to interrupt there."""
        if not self.is_armed or self.has_happened:
            return False
        self.count += 1
        if self.checkpoints is not None:
            self.checkpoints.append(_checkpoint(task))
        self.has_happened = self.count == self._number
        return self.has_happened


def _checkpoint(task: trio.lowlevel.Task | None) -> int:
    """Return a number for where a task waits, or for the code that runs: the lines of all its frames."""
    stack = traceback.walk_stack(None) if task is None else task.iter_await_frames()
    lines = [(frame.f_code.co_filename, frame.f_code.co_name, line) for frame, line in stack]
    return hash(tuple(lines or ["the end", "" if task is None else task.name]))


@final
class Steps(trio.abc.Instrument):
    """Hits a trigger at each step of the tasks below some roots, and interrupts.

    Attributes:
        roots: these tasks; all tasks below them are meant.
    """

    def __init__(self, trigger: Trigger, interrupt: Callable[[], None]) -> None:
        self.roots: set[trio.lowlevel.Task] = set()
        self._trigger = trigger
        self._interrupt = interrupt
        self._known: dict[trio.lowlevel.Task, bool] = {}

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self._trigger.is_armed or self._trigger.has_happened:
            return
        is_meant = self._known.get(task)
        if is_meant is None:
            is_meant = self._known[task] = self._is_below(task)
        if is_meant and self._trigger.hit(task):
            self._interrupt()

    def _is_below(self, task: trio.lowlevel.Task) -> bool:
        looked_at: trio.lowlevel.Task | None = task
        while looked_at is not None and looked_at not in self.roots:
            nursery = looked_at.parent_nursery
            looked_at = None if nursery is None else nursery.parent_task
        return looked_at is not None
