"""A share of the cases, in memory and under a clock that jumps; `make interruptions` runs all.

It is the same share each time, so that a failure is that of a change. `TRIO_SSE_SEED=7 pytest ...` takes
another one.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..support.waiting import SECONDS

#: Seconds of CPU time, and cases; a slow machine runs the first of them.
_SECONDS, _CASES = 10, 240
_SEED = os.environ.get("TRIO_SSE_SEED", "20")


@pytest.mark.integration  # another program, which takes seconds
def test_nothing_is_left_wherever_a_scenario_is_interrupted() -> None:
    """It is a process of its own, so that a seed repeats Trio's choices, too."""
    command = [sys.executable, "-m", "tests.interruptions", "--virtual", "--seed", _SEED]
    command += ["--share", str(_SECONDS), "--cases", str(_CASES)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=4 * SECONDS, check=False)
    print(run.stdout)  # it says the seed, and the names of cases that failed
    assert run.returncode == 0, run.stdout + run.stderr
