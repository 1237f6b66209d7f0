"""`python -m tests.interruptions`: all cases, a share of them, or some by name; exit with 1 if any fails."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import random
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
from .processes import Done, run_scenarios
from .suite import MOST, Report, Sweep, combinations, try_one, try_share

#: A case that takes longer blocks the process.
_SECONDS = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cases; return the exit status."""
    options = _parse(arguments)
    if options.seed is None:
        options.seed = random.randrange(1_000_000) if options.share else 0
    if (options.jobs > 1 or options.resume) and not options.case:
        return _run_scenarios(options)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "Unclosed <MemoryObject", ResourceWarning)  # anyio's, of a Redis client
    # Those that a cancellation leaves to the garbage collector, with no other resource: httpx's of a request
    # whose body was not sent whole, and Starlette's of middleware.
    warnings.filterwarnings(
        "ignore", r"Async generator '(httpx\._content|starlette\.middleware)\.", ResourceWarning
    )
    faulthandler.enable()
    logging.getLogger().addHandler(logging.NullHandler())  # frameworks log what is injected
    logging.getLogger("trio_sse").propagate = False
    if options.case:
        return _run_one(Case.parse(options.case), options)
    report = Report()
    began_at = time.process_time()
    with _resources(needs_redis=options.redis) as resources:
        if options.share:
            print(f"seed {options.seed}", flush=True)
            try_share(options.share, options.cases, options.seed, resources, report, list(_chosen(options)))
        else:
            sweep = Sweep(resources, report, every=options.every)
            for case in _chosen(options):
                faulthandler.dump_traceback_later(_SECONDS * 4, exit=True)
                _try(case, options, resources, report, sweep)
    report.seconds = time.process_time() - began_at
    if options.report is not None:
        options.report.write_text(json.dumps(report.to_json()))
    print(report, flush=True)
    return 1 if report.failures else 0


def _chosen(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the first case of each combination that the options choose."""
    for case in combinations(lambda name: all(word in name for word in options.names)):
        if options.scenario not in (None, case.scenario) or (options.virtual and not case.is_virtual):
            continue
        if options.redis or case.log != "redis":
            yield case


def _try(case: Case, options: argparse.Namespace, resources: Resources, report: Report, sweep: Sweep) -> None:
    before, began_at = report.cases, time.monotonic()
    if options.once:
        if case.place is Place.END:
            report.combinations += 1
            try_one(replace(case, number=MOST), resources, report)
    elif options.seeds:
        sweep.run_seeds(case, range(options.seed, options.seed + options.seeds))
    else:
        sweep.run(replace(case, seed=options.seed))
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


def _run_scenarios(options: argparse.Namespace) -> int:
    """Run the scenarios in processes of their own, which are independent of each other."""
    passed_on = [*options.names, "--seed", str(options.seed)]
    for name in ("virtual", "once", "redis", "every"):
        passed_on += [f"--{name}"] if getattr(options, name) else []
    passed_on += ["--seeds", str(options.seeds)] if options.seeds else []
    names = dict.fromkeys(case.scenario for case in _chosen(options))
    done = None if options.resume is None else Done(options.resume, passed_on)
    verbose = ["--verbose"] if options.verbose else []
    report = run_scenarios(list(names), [*passed_on, *verbose], options.jobs, done)
    for case, why in report.failures.items():
        print("FAILED", case, why)
    print(f"altogether: {report}", flush=True)
    return 1 if report.failures else 0


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
    parser.add_argument("--seed", type=int, help="the first seed; 0, but random for a share")
    parser.add_argument("--redis", action="store_true", help="start a redis-server, for cases that need one")
    parser.add_argument("--jobs", type=int, default=1, help="in how many processes")
    parser.add_argument("--every", action="store_true", help="interrupt all hosts and logs at each number")
    parser.add_argument("--resume", type=Path, help="keep in this file which scenarios are done, and go on")
    parser.add_argument("--scenario", help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--verbose", action="store_true", help="print each combination")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
