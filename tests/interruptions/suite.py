"""All cases, a share of them, or one; and the report."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, final

from .case import Case, Resources, leaves_of, run_case
from .hosts import HOSTS, Host
from .logs import LOGS
from .places import COUNTED_AS, OF_OPERATIONS, Place
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
        kinds: how many ran of each place.
        seconds: of CPU time.
    """

    cases: int = 0
    combinations: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def note_failure(self, case: Case, error: Exception) -> None:
        """Note why a case has failed."""
        why = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves_of(error))
        self.failures[str(case)] = why
        print("FAILED", case, why, flush=True)

    def add(self, other: Report) -> None:
        """Add what another one has counted."""
        self.cases += other.cases
        self.combinations += other.combinations
        self.failures |= other.failures
        self.kinds += other.kinds
        self.seconds += other.seconds

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value, which `from_json` takes."""
        return {**vars(self), "kinds": dict(self.kinds)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Report:
        """Return what `to_json` has returned."""
        return cls(**{**value, "kinds": Counter(value["kinds"])})

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return (
            f"{self.cases} cases of {self.combinations} combinations in {self.seconds:.0f} CPU s: {kinds}; "
            f"{len(self.failures)} failed"
        )


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
    if place is Place.CLIENT:
        return scenario.has_client
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
        report.note_failure(case, error)
        return True


@final
class Sweep:
    """Interrupts scenarios at each checkpoint.

    A scenario's first host and log, mostly a route of the server with the log in memory, are interrupted at
    each number. On the others, most of these checkpoints come again, in code that all share. So
    they are interrupted at those that the scenario has not had before: where a task waits in code of theirs.

    Args:
        every: interrupt everywhere at each number.
    """

    def __init__(self, resources: Resources, report: Report, *, every: bool = False) -> None:
        self._resources = resources
        self._report = report
        self._every = every
        self._seen: dict[tuple[str, Place], set[int]] = {}
        self._recorded: dict[Case, list[int]] = {}

    def run(self, first: Case) -> None:
        """Interrupt a scenario at the checkpoints of one place."""
        self._report.combinations += 1
        failures = 0
        for number in self._numbers(first):
            before = len(self._report.failures)
            if not try_one(replace(first, number=number), self._resources, self._report):
                return
            failures += len(self._report.failures) - before
            if failures >= 3:
                return  # the others are probably of the same kind

    def run_seeds(self, first: Case, seeds: Iterable[int]) -> None:
        """Interrupt at a random number for each seed, with other choices of Trio's, and turns of our own."""
        self._report.combinations += 1
        count = len(self._checkpoints(first))
        for seed in seeds:
            number = random.Random(f"{seed} {first}").randrange(max(count, 1)) + 1
            case = replace(first, number=number, seed=seed, is_shuffled=True)
            try_one(case, self._resources, self._report)

    def _numbers(self, first: Case) -> Iterable[int]:
        seen = self._seen.get((first.scenario, first.place))
        if self._every or seen is None:
            if not self._every:
                self._seen[first.scenario, first.place] = set(self._checkpoints(first))
            return range(1, MOST)
        checkpoints = self._checkpoints(first)
        new = {checkpoint: number for number, checkpoint in reversed([*enumerate(checkpoints, 1)])}
        numbers = sorted(number for checkpoint, number in new.items() if checkpoint not in seen)
        seen.update(checkpoints)
        return numbers

    def _checkpoints(self, first: Case) -> list[int]:
        """Return the checkpoints of a scenario that is not interrupted."""
        place = COUNTED_AS.get(first.place, first.place)
        counted = replace(first, place=place, number=MOST)
        if counted not in self._recorded:
            try:
                found = run_case(counted, self._resources, records=True).checkpoints
            except Exception as error:
                self._report.note_failure(counted, error)
                found = []
            self._recorded[counted] = found or []
            if len(self._recorded[counted]) >= MOST:
                self._report.failures[str(counted)] = f"the scenario has more than {MOST} steps"
        return self._recorded[counted]


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
