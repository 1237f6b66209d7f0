"""`python -m tests.interruptions`: all cases, a share of them, or some by name; exit with 1 if any fails."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import trio

from ..support.certificates import Certificate
from ..support.redis_server import redis_server
from . import scenarios  # noqa: F401
from .case import Case, Resources, run_case
from .logs import Logs
from .places import Place
from .suite import MOST, Report, combinations, try_everywhere, try_one, try_seeds, try_share

#: A case that takes longer blocks the process.
_SECONDS = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cases; return the exit status."""
    options = _parse(arguments)
    if options.jobs > 1 and not options.case:
        return _run_parts(options.jobs, list(sys.argv[1:] if arguments is None else arguments))
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "Unclosed <MemoryObject", ResourceWarning)  # anyio's, of a Redis client
    faulthandler.enable()
    logging.getLogger().addHandler(logging.NullHandler())  # frameworks log what is injected
    logging.getLogger("trio_sse").propagate = False
    if options.case:
        return _run_one(Case.parse(options.case), options)
    report = Report()
    words = options.names
    cases = list(combinations(lambda name: all(word in name for word in words)))
    if options.virtual:
        cases = [case for case in cases if case.is_virtual]
    if not options.redis:
        cases = [case for case in cases if case.log != "redis"]
    part, parts = options.part
    began_at = time.process_time()
    with _resources(needs_redis=options.redis) as resources:
        if options.share:
            print(f"seed {options.seed}", flush=True)
            try_share(options.share, options.cases, options.seed, resources, report, cases)
        else:
            for number, case in enumerate(cases):
                if number % parts == part:
                    faulthandler.dump_traceback_later(_SECONDS * 4, exit=True)
                    _try(case, options, resources, report)
    _print(report, time.process_time() - began_at)
    return 1 if report.failures else 0


def _try(case: Case, options: argparse.Namespace, resources: Resources, report: Report) -> None:
    before, began_at = report.cases, time.monotonic()
    if options.once:
        if case.place is Place.END:
            report.combinations += 1
            try_one(replace(case, number=MOST), resources, report)
    elif options.seeds:
        seeds = range(options.seed, options.seed + options.seeds)
        try_seeds(case, iter(seeds), resources, report)
    else:
        try_everywhere(replace(case, seed=options.seed), resources, report)
    seconds = time.monotonic() - began_at
    name = str(case).rsplit("/", 2)[0]
    if options.verbose and report.cases > before:
        print(f"{name}: {report.cases - before} cases in {seconds:.1f} s", flush=True)


def _run_one(case: Case, options: argparse.Namespace) -> int:
    with _resources(needs_redis=case.log == "redis") as resources:
        for _ in range(options.repeat):
            try:
                trigger = run_case(case, resources)
            except Exception:
                traceback.print_exc()
                return 1
            print(f"interrupted: {trigger.has_happened}, counted: {trigger.count}")
    return 0


def _run_parts(jobs: int, arguments: list[str]) -> int:
    """Run the cases in several processes, as they are independent of each other."""
    place = arguments.index("--jobs")
    del arguments[place : place + 2]
    command = [sys.executable, "-m", "tests.interruptions", *arguments]
    parts = [subprocess.Popen([*command, "--part", f"{part}/{jobs}"]) for part in range(jobs)]
    return max(part.wait() for part in parts)


@contextlib.contextmanager
def _resources(*, needs_redis: bool) -> Iterator[Resources]:
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="interruptions-", dir=shared) as name:
        folder = Path(name)
        certificate = Certificate(folder)
        if not needs_redis:
            yield Resources(certificate, Logs(folder))
            return
        with redis_server(folder, "--appendonly", "no") as server:
            trio.run(server.start)
            yield Resources(certificate, Logs(folder, server.url))


def _print(report: Report, seconds: float) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items()))
    print(
        f"{report.cases} cases of {report.combinations} combinations in {seconds:.0f} CPU s: {kinds}; "
        f"{len(report.failures)} failed",
        flush=True,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.interruptions", description=__doc__)
    parser.add_argument("names", nargs="*", help="only cases whose names contain all of these")
    parser.add_argument("--case", help="run one case by its name, as a failure says it")
    parser.add_argument("--repeat", type=int, default=1, help="run the case so many times")
    parser.add_argument("--virtual", action="store_true", help="only cases under a clock that jumps")
    parser.add_argument("--once", action="store_true", help="do not interrupt at all")
    parser.add_argument("--share", type=float, help="run random cases for so many seconds of CPU time")
    parser.add_argument("--cases", type=int, default=1_000_000, help="the most cases of a share")
    parser.add_argument("--seeds", type=int, help="one random number for each of so many seeds")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="the first seed")
    parser.add_argument("--redis", action="store_true", help="start a redis-server, for cases that need one")
    parser.add_argument("--jobs", type=int, default=1, help="in how many processes")
    parser.add_argument("--part", type=_part, default=(0, 1), help=argparse.SUPPRESS)
    parser.add_argument("--verbose", action="store_true", help="print each combination")
    return parser.parse_args(arguments)


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    return int(part), int(parts)


if __name__ == "__main__":
    sys.exit(main())
