"""Fewer and later garbage collections, for a process that serves many connections.

By default, Python's cyclic collector visits every object each time their number has grown by a quarter, and
nothing else runs during a collection. That is the worst case for a server: each connection adds some sixty
objects that live for an hour, so growing to ten thousand connections means many visits to objects that are
all in use. And there is nothing to collect: a closed connection leaves no reference cycle behind, as a test
shows (`tests/process/test_garbage_collector.py`), and reference counting frees it at once. Reference cycles
of the application are still collected, only later.
"""

from __future__ import annotations

import gc

# A young collection runs after this many new objects. It takes 1 to 2 ms.
_YOUNG = 10_000

# A middle collection runs after every second young one, so that each handles few objects. The oldest
# generation follows after this many middle ones, when there are about two million new objects.
_MIDDLE = 1
_OLD = 100


def tune_garbage_collector() -> None:
    """Run the cyclic garbage collector rarely enough for many connections.

    `trio-sse serve` does this for its process. In your own program, call it once, after the imports and
    before the first connection. It affects the whole process: objects that exist now are never visited again
    (`gc.freeze`), and the thresholds are higher (`gc.set_threshold`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
