"""Waiting as `trio.lowlevel.wait_task_rescheduled` does, with less memory.

While a task waits there, its coroutine holds a generator, which holds a message to the event loop. An idle
stream would hold the three for hours. But the event loop needs the message only once. So it is taken out of
the coroutine, which is then closed, and one small generator waits for the answer: 280 bytes less.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from typing import Any

import trio

#: See `trio.lowlevel.wait_task_rescheduled`.
AbortFunction = Callable[[Any], trio.lowlevel.Abort]


@types.coroutine
def wait_rescheduled(abort: AbortFunction) -> Generator[Any, Any, Any]:
    """Wait until something reschedules the task; return the value that it passes."""
    return (yield _message(abort)).unwrap()


def _message(abort: AbortFunction) -> object:
    """Return what a task that waits to be rescheduled passes to the event loop."""
    waiting = trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105  # it is not awaited
    message = waiting.send(None)
    waiting.close()
    return message
