"""Where a scenario is interrupted, and by what."""

from __future__ import annotations

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

    # At an operation on a connection
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
    }
)
OF_OPERATIONS = frozenset({Place.BROKEN, Place.CLOSED, Place.OS_ERROR, Place.SHORT})
OF_CODE = frozenset({Place.ERROR, Place.PANIC})

#: After these, nothing is served any more.
ENDS_SERVER = frozenset({Place.SERVER, Place.RUN, Place.DRAIN})


@final
class Trigger:
    """Counts the steps, operations or calls at which a case may be interrupted, and says which one it is.

    Attributes:
        count: how many there were.
        has_happened: whether there were enough.
    """

    def __init__(self, place: Place, number: int) -> None:
        self.place = place
        self.count = 0
        self.has_happened = False
        self.is_armed = False
        self._number = number

    def hit(self) -> bool:
        """Count one; return whether it is the one to interrupt at."""
        if not self.is_armed or self.has_happened:
            return False
        self.count += 1
        self.has_happened = self.count == self._number
        return self.has_happened


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
        if is_meant and self._trigger.hit():
            self._interrupt()

    def _is_below(self, task: trio.lowlevel.Task) -> bool:
        looked_at: trio.lowlevel.Task | None = task
        while looked_at is not None and looked_at not in self.roots:
            nursery = looked_at.parent_nursery
            looked_at = None if nursery is None else nursery.parent_task
        return looked_at is not None
