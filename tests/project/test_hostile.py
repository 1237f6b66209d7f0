"""The harness of hostile peers: how it counts, and how it judges."""

from __future__ import annotations

from typing import Any

from benchmarks.hostile.__main__ import choose
from benchmarks.hostile.attacker import ATTACKS
from benchmarks.hostile.catalogue import SCENARIOS
from benchmarks.hostile.delivery import Deliveries, Delivery
from benchmarks.hostile.needs import program
from benchmarks.hostile.results import Result, table
from benchmarks.hostile.scenario import Scenario, Settings

from ..support.cases import each_case


def received(*events: tuple[int, int]) -> Delivery:
    """Return what a client has received: numbers, and how late each was."""
    delivery = Delivery(within=100)
    for number, late in events:
        delivery.take(number, 1000 * number, 1000 * number + late)
    return delivery


def test_events_are_in_time_late_missing_or_repeated() -> None:
    delivery = received((5, 100), (6, 101), (9, 0), (9, 0), (8, 0))
    total = Deliveries()

    total.add(delivery, 11, frozenset({10}))

    assert delivery.missing == [7, 8]
    assert (total.expected, total.in_time, total.lost, total.repeated, total.longest) == (6, 2, 3, 2, 101)


def test_what_a_client_missed_after_it_left_is_not_lost() -> None:
    assert received((5, 0)).lost(None, frozenset()) == 0


def test_what_a_reset_has_announced_is_not_lost() -> None:
    delivery = received((5, 0))

    delivery.reset()
    delivery.take(9, 0, 0)

    assert (delivery.lost(9, frozenset()), delivery.resets) == (0, 1)


GOOD = {
    "expected": 1000,
    "in_time": 999,
    "lost": 0,
    "repeated": 0,
    "resets": 0,
    "longest": 0.5,
    "newcomers": 100,
    "newcomers_in_time": 100,
    "reconnects": 0,
}


def result(*, memory: float = 10.0, gone_after: float | None = 11.0, **healthy: float) -> Result:
    left: dict[str, Any] = {} if gone_after is not None else {"tasks": 3}
    scenario = Scenario("an attack", deadline=12, memory=48)
    return Result(scenario, Settings(), {**GOOD, **healthy}, None, memory, gone_after, left, {})


@each_case(
    ("broken", "fault"),
    [
        (result(), None),
        (result(in_time=998), "99.80 % in time"),
        (result(newcomers_in_time=99), "1 newcomers late"),
        (result(lost=2), "2 lost"),
        (result(repeated=1), "1 repeated"),
        (result(memory=49), "grew by 49 MiB"),
        (result(gone_after=12.5), "too late"),
        (result(gone_after=None), "left: {'tasks': 3}"),
    ],
)
def test_a_broken_bound_is_a_fault(broken: Result, fault: str | None) -> None:
    assert broken.faults() == ([] if fault is None else [fault])
    assert broken.row()[-1] == (fault or "ok")


def test_the_table_says_loudly_what_was_skipped() -> None:
    missing = Scenario("another", needs=[program("no-such-program")])
    lines = table([result()], {missing.name: "; ".join(missing.reasons_to_skip())}).splitlines()
    assert lines[-1] == "another: SKIPPED, no-such-program is not installed"


def test_each_attack_of_the_catalogue_exists_and_each_name_is_used_once() -> None:
    used = {scenario.attack for scenario in SCENARIOS if scenario.attack is not None}
    assert {attack for attack in used if not attack.startswith("-")} == set(ATTACKS)
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


def test_a_scenario_is_chosen_by_a_part_of_its_name() -> None:
    assert [scenario.name for scenario in choose(["slow bod"])] == [
        "slow bodies",
        "slowhttptest, slow bodies",
    ]
    assert choose([]) == list(SCENARIOS)
