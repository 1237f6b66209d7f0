"""`python -m tests.mutants`: try all mutants, some by name, or a share; exit with 1 unless all are killed."""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from .mutant import Mutant, load_mutants
from .trial import Outcome, Trial, Workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Try mutants; return the exit status."""
    options = _parse(arguments)
    mutants = _selected(load_mutants(), options)
    if options.list:
        print(*(f"{mutant.name}: {mutant.promise}" for mutant in mutants), sep="\n")
        return 0
    jobs = min(options.jobs, len(mutants))
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        spaces: SimpleQueue[Workspace] = SimpleQueue()
        for number in range(jobs):
            folder = Path(name, str(number))
            folder.mkdir()
            spaces.put(Workspace(folder))
        if not options.no_baseline and (failures := _baseline(spaces, mutants, jobs)):
            print(f"These tests fail without a mutant, so they can kill none:\n{failures}")
            return 1
        trials = _try_all(spaces, mutants, jobs, began_at + options.seconds)
    return report(trials, time.monotonic() - began_at, is_bounded=options.seconds < math.inf)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="try only mutants whose name or package contains one of these"
    )
    parser.add_argument("--share", metavar="1/N", type=_share, default=1, help="try a random one of N")
    parser.add_argument("--seed", type=int, help="of the share's choice; it is printed")
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="for all of them; those for which it is too short are named, and only survivors are a failure",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument(
        "--no-baseline", action="store_true", help="do not run the tests without a mutant first"
    )
    parser.add_argument("--list", action="store_true", help="list the mutants and try none")
    return parser.parse_args(arguments)


def _share(text: str) -> int:
    found = re.fullmatch(r"1/([1-9]\d*)", text)
    if found is None:
        raise argparse.ArgumentTypeError("a share is written as 1/6")
    return int(found[1])


def _selected(mutants: list[Mutant], options: argparse.Namespace) -> list[Mutant]:
    if names := options.names:
        mutants = [each for each in mutants if any(name in f"{each.group} {each.name}" for name in names)]
        if not mutants:
            sys.exit("No mutant has such a name.")
    if options.share > 1:
        seed = random.randrange(1_000_000) if options.seed is None else options.seed
        count = -(-len(mutants) // options.share)
        print(f"{count} of {len(mutants)} mutants, --share 1/{options.share} --seed {seed}", flush=True)
        mutants = random.Random(seed).sample(mutants, count)
    return mutants


def _baseline(spaces: SimpleQueue[Workspace], mutants: list[Mutant], jobs: int) -> str:
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    space = spaces.get()
    try:
        return space.failures(tests, jobs)
    finally:
        spaces.put(space)


def _try_all(
    spaces: SimpleQueue[Workspace], mutants: list[Mutant], jobs: int, deadline: float
) -> list[Trial]:
    def attempt(mutant: Mutant) -> Trial:
        space = spaces.get()
        try:
            trial = space.attempt(mutant, deadline)
        finally:
            spaces.put(space)
        if trial.outcome is not Outcome.UNTRIED:
            print(_line(trial), flush=True)
        return trial

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(attempt, mutants))


def _line(trial: Trial) -> str:
    return f"{trial.outcome.value:9}{trial.seconds:6.1f} s  {trial.mutant.name}: {trial.detail[:180]}"


def report(trials: list[Trial], seconds: float, *, is_bounded: bool) -> int:
    """Print a table of the packages, and what was not killed; return the exit status.

    If the time was bounded, a trial that has hung, or could not be run, may only show a slow machine. But
    tests that have passed do not notice their mutant on any machine.
    """
    untried = [trial.mutant.name for trial in trials if trial.outcome is Outcome.UNTRIED]
    trials = [trial for trial in trials if trial.outcome is not Outcome.UNTRIED]
    print()
    for group in sorted({trial.mutant.group for trial in trials}):
        of_group = [trial for trial in trials if trial.mutant.group == group]
        killed = sum(trial.outcome is Outcome.KILLED for trial in of_group)
        print(f"{group:20}{killed:4} of {len(of_group):3} killed")
    left = [trial for trial in trials if trial.outcome is not Outcome.KILLED]
    for trial in left:
        print(f"\n{trial.outcome.value} {trial.mutant.name} ({trial.mutant.file})\n{trial.mutant.promise}")
        print(trial.detail)
    print(f"\n{len(trials) - len(left)} of {len(trials)} mutants killed in {seconds:.0f} s")
    if untried:
        print(f"{len(untried)} were not tried, or not to the end: {', '.join(untried)}")
    certain = (Outcome.SURVIVED, Outcome.STALE)
    return 1 if any(trial.outcome in certain or not is_bounded for trial in left) else 0


if __name__ == "__main__":
    sys.exit(main())
