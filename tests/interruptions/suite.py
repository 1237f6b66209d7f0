"""All cases, a share of them, or one; and the report."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import final

from .case import Case, Resources, leaves_of, run_case
from .hosts import HOSTS, Host
from .logs import LOGS
from .places import OF_OPERATIONS, Place
from .scenario import SCENARIOS, Scenario

#: After so many a scenario counts as endless.
MOST = 3000


@final
@dataclass
class Report:
    """What was run, and found.

    Attributes:
        cases: how many ran.
        combinations: scenarios on hosts, logs and places.
        failures: the cases that failed, with the first line of why.
    """

    cases: int = 0
    combinations: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)


def suits(scenario: Scenario, host: Host, log: str, place: Place) -> bool:
    """Whether a scenario can be run there, and interrupted so."""
    if host.kind not in scenario.hosts or log not in scenario.logs:
        return False
    if host.transport not in scenario.transports:
        return False
    if (scenario.is_http1 and host.is_http2) or (scenario.is_http2 and not host.is_http2):
        return False
    if scenario.is_virtual and not (host.is_in_memory and log in ("memory", "list")):
        return False
    if place is Place.LOG:
        return log == "list"
    if place is Place.CONNECTION:
        return host.is_in_memory
    if place in OF_OPERATIONS:
        return host.transport != "hypercorn"
    return True


def combinations(
    chosen: Callable[[str], bool] = lambda name: True,
) -> Iterator[Case]:
    """Yield the first case of each scenario on each host and log, interrupted in each way."""
    for name, scenario in SCENARIOS.items():
        for host in HOSTS.values():
            for log in LOGS:
                for place in Place:
                    case = Case(name, host.name, log, place, 1)
                    if suits(scenario, host, log, place) and chosen(str(case)):
                        yield case


def try_one(case: Case, resources: Resources, report: Report) -> bool:
    """Run a case; return whether it was interrupted."""
    report.cases += 1
    report.kinds[case.place.value] += 1
    try:
        return run_case(case, resources).has_happened
    except Exception as error:
        why = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves_of(error))
        report.failures[str(case)] = why
        print("FAILED", case, why, flush=True)
        return True


def try_everywhere(first: Case, resources: Resources, report: Report) -> None:
    """Interrupt a scenario at each number, until there are no more."""
    report.combinations += 1
    failures = 0
    for number in range(1, MOST):
        before = len(report.failures)
        if not try_one(replace(first, number=number), resources, report):
            return
        failures += len(report.failures) - before
        if failures >= 3:
            return  # the others are probably of the same kind
    report.failures[str(first)] = f"the scenario has more than {MOST} steps"


def try_seeds(first: Case, seeds: Iterator[int], resources: Resources, report: Report) -> None:
    """Interrupt a scenario at a random number, with other choices of Trio's, and turns of our own."""
    report.combinations += 1
    count = run_case(replace(first, number=MOST), resources).count
    for seed in seeds:
        number = random.Random(seed).randrange(max(count, 1)) + 1
        try_one(replace(first, number=number, seed=seed, is_shuffled=True), resources, report)


def try_share(
    seconds: float, most: int, seed: int, resources: Resources, report: Report, cases: list[Case]
) -> None:
    """Interrupt random scenarios at random numbers, for so much CPU time and so many cases at most."""
    chance = random.Random(seed)
    began_at = time.process_time()
    while time.process_time() - began_at < seconds and report.cases < most:
        first = chance.choice(cases)
        report.combinations += 1
        count = run_case(replace(first, number=MOST), resources).count
        for _ in range(4):
            number = chance.randrange(max(count, 1)) + 1
            seed, is_shuffled = chance.randrange(1_000_000), chance.random() < 0.5
            try_one(replace(first, number=number, seed=seed, is_shuffled=is_shuffled), resources, report)
