"""A random share of the cases, in memory and under a clock that jumps; `make interruptions` runs all."""

from __future__ import annotations

import subprocess
import sys

from ..support.waiting import SECONDS

#: Seconds of CPU time.
_SHARE = 6


def test_nothing_is_left_wherever_a_random_scenario_is_interrupted() -> None:
    """It is a process of its own, so that a seed repeats Trio's choices, too."""
    command = [sys.executable, "-m", "tests.interruptions", "--share", str(_SHARE), "--virtual"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=4 * SECONDS, check=False)
    print(run.stdout)  # it says the seed, and the names of cases that failed
    assert run.returncode == 0, run.stdout + run.stderr
