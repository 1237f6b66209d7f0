"""How long the machine has slept, where the system tells.

Trio's clock stands still while the machine sleeps, and the wall clock does not. On Linux, CLOCK_BOOTTIME
counts the sleep, and CLOCK_MONOTONIC does not. Elsewhere, a sleep is taken for a wall clock that was set.
"""

from __future__ import annotations

import time

_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def seconds_suspended() -> float:
    """Return how many seconds the machine has slept since its start; 0 if the system does not tell."""
    if _BOOT_CLOCK is None:
        return 0.0
    # The clocks are read one after the other, so the difference is not exactly 0.
    return max(0.0, round(time.clock_gettime(_BOOT_CLOCK) - time.clock_gettime(time.CLOCK_MONOTONIC), 2))
