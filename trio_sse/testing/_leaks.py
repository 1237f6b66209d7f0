"""What a test must not leave behind: tasks, file descriptors, open streams, subscriptions."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from .._hub.hub import Hub
from .._server.server import Server

_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@asynccontextmanager
async def no_leak(*watched: Server | Hub) -> AsyncIterator[None]:
    """Fail if something is left after the block that was not there before it.

    What is compared: tasks of this run, file descriptors of this process, and of each watched server or hub
    its open streams and subscriptions. Tasks that are about to end have a turn to do so first.

    Raises:
        AssertionError: something is left; the text says what.
    """
    tasks, descriptors = set(_tasks()), _descriptors()
    yield
    await trio.testing.wait_all_tasks_blocked()
    left = [f"the task {task.name}" for task in _tasks() if task not in tasks]
    left += [
        f"descriptor {number} ({what})"
        for number, what in _descriptors().items()
        if number not in descriptors
    ]
    left += registrations(*watched)
    assert not left, "the block has left " + ", ".join(left)


def registrations(*watched: Server | Hub) -> list[str]:
    """Return what servers and hubs still have: open streams, subscriptions."""
    found = []
    for one in watched:
        if isinstance(one, Server) and (streams := one.statistics().open_streams):
            found.append(f"{streams} open streams")
        hub = one.hub if isinstance(one, Server) else one
        if subscriptions := hub.statistics().subscriptions:
            found.append(f"{subscriptions} subscriptions")
    return found


def _tasks() -> Iterator[trio.lowlevel.Task]:
    """Yield the tasks of this run, but for those in which pytest-trio runs its fixtures."""
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        assert task is not None
        if "pytest_trio" not in task.name:
            yield task
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir(_DESCRIPTORS):
        try:
            found[int(name)] = os.readlink(f"{_DESCRIPTORS}/{name}")
        except OSError:  # the listing's own, or a system without links
            continue
    return found
