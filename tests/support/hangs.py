"""What a test that hangs waits for: where each task of its Trio run stands."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import trio


def waiting_tasks() -> str:
    """Return the name of each task and the lines that it waits at, outermost first."""
    try:
        waiting = [trio.lowlevel.current_root_task()]
    except RuntimeError:
        return "no task: Trio does not run"
    lines = []
    while waiting:
        task = waiting.pop()
        assert task is not None
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        lines.append(task.name)
        for frame, number in task.iter_await_frames():
            lines.append(f"    {frame.f_code.co_filename}:{number} in {frame.f_code.co_name}")
    return "\n".join(lines)


def say_at_timeout() -> None:
    """Print what tasks wait for before pytest-timeout, whose alarm is set, fails the test."""
    fails = signal.getsignal(signal.SIGALRM)

    def handler(number: int, frame: FrameType | None) -> None:
        print("The tasks of this test wait for:", waiting_tasks(), sep="\n", file=sys.stderr)
        if callable(fails):
            fails(number, frame)

    signal.signal(signal.SIGALRM, handler)
