"""The cores that servers and loads are pinned to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Read before this process pins itself.
ALL_CORES = os.sched_getaffinity(0)
SERVER_CORE = min(ALL_CORES)
LOAD_CORE = max(ALL_CORES)  # the server's own core if there is only one


def leave_the_servers_core() -> None:
    """Pin this process to the load's core. It only waits, but even waiting would disturb the server."""
    os.sched_setaffinity(0, {LOAD_CORE})


@contextmanager
def on_all_cores() -> Iterator[None]:
    """Let this process, and the processes that it starts in the context, run on any core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALL_CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
