"""Fewer and later collections, for a process that serves many connections.

The collector of reference cycles looks at all objects that there are whenever those of a quarter more have
been made, and the process stands still meanwhile. A server is the worst case for that: each connection adds
some sixty objects that live for an hour, so growing to ten thousand connections means many walks over objects
that are all in use. And there is nothing to be found: a connection that ends leaves no cycle behind, as a
test shows (`tests/process/test_garbage_collector.py`), and reference counts free it at once. Cycles of the
application's own are still found, only later.
"""

from __future__ import annotations

import gc

# Young objects are looked at when there are so many more than before. It takes 1 to 2 ms.
_YOUNG = 10_000

# The middle generation is looked at after each second of those: each object is looked at as often as with
# more of them, but fewer at once. The oldest follows after so many of the middle one's: when some two million
# objects are there that were not before.
_MIDDLE = 1
_OLD = 100


def tune_garbage_collector() -> None:
    """Have Python look for reference cycles seldom enough for many connections.

    `trio-sse serve` does this for its process. In a program of your own, call it once, when everything is
    imported and before connections come; it holds for the whole process.

    What exists now is never looked at again (`gc.freeze`), and thresholds are higher (`gc.set_threshold`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
