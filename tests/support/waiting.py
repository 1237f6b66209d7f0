"""Waiting until something is true that no event announces."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import trio

# For anything to happen: only a failing test waits so long. `make mutants` has many that fail. A test that
# bounds several waits takes 4 times as long at most: pytest's timeout is 300 seconds, and says less.
SECONDS = float(os.environ.get("TRIO_SSE_TEST_WAIT", "60"))


async def until(is_so: Callable[[], object], *, seconds: float = SECONDS) -> float:
    """Wait in Trio until a condition is true; return how many seconds that took, on the run's clock."""
    began_at, pause = trio.current_time(), 0.001
    with trio.fail_after(seconds):
        while not is_so():  # no event announces it
            await trio.sleep(pause)
            pause = min(2 * pause, 0.05)  # the condition may take long to compute
    return trio.current_time() - began_at


def until_blocking(is_so: Callable[[], object], *, state: Callable[[], object] = lambda: "") -> None:
    """Block the thread until a condition is true that others bring about; `state` is said if it is not."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"it has not become true: {state()}"
        time.sleep(0.01)
