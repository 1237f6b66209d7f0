"""`python -m tests.proof`: a share of the longer runs, for a bounded time; CI runs it after the tests.

Each part has the seed, which is printed, and its share of the time that is left. It stops by itself, and says
what it has not done. A part that does not stop is ended, and that is no failure: the machine may be slow. So
what fails is wrong on any machine: an input that breaks a promise, or a fault that no test notices.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

# What a part takes to start and to end.
_GRACE_SECONDS = 10.0


class Part(NamedTuple):
    """A command that takes a seed and a bound on its time.

    Attributes:
        share: how much of the time that is left it may take.
        option: the name of the option for its seconds, and how many of them each second is.
    """

    name: str
    share: float
    command: tuple[str, ...]
    option: tuple[str, float] = ("--seconds", 1.0)


# The last part takes all that the others leave; put others before it.
PARTS = (
    Part("blind fuzzing", 0.2, ("-m", "tests.fuzz.blind")),
    # It counts CPU time, of which a busy machine gives less.
    Part("random interruptions", 0.3, ("-m", "tests.interruptions", "--virtual"), ("--share", 0.6)),
    Part("a share of the mutants", 1.0, ("-m", "tests.mutants", "--share", "1/8", "--no-baseline")),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts; return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.proof", description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0, help="for all parts together")
    parser.add_argument("--seed", type=int, help="of all parts; it is printed")
    options = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    began_at = time.monotonic()
    results = []
    for part in PARTS:
        left = options.seconds - (time.monotonic() - began_at)
        seconds = max(0.0, left * part.share - _GRACE_SECONDS)
        print(f"== {part.name}: at most {seconds:.0f} s, --seed {seed}", flush=True)
        results.append((part.name, _run(part, seconds, seed)))
    text = "; ".join(f"{name}: {result}" for name, result in results)
    print(f"proof in {time.monotonic() - began_at:.0f} s, --seed {seed}: {text}")
    return 1 if any(result == "FAILED" for _, result in results) else 0


def _run(part: Part, seconds: float, seed: int) -> str:
    """Run a part; return how it has ended."""
    option, factor = part.option
    command = [sys.executable, *part.command, option, f"{seconds * factor:.1f}", "--seed", str(seed)]
    process = subprocess.Popen(command, start_new_session=True)  # what it starts ends with it
    try:
        return "FAILED" if process.wait(seconds + _GRACE_SECONDS) else "passed"
    except subprocess.TimeoutExpired:
        return "did not end in time"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
