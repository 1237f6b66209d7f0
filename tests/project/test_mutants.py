"""The mutants of `make mutants` are not stale, and name tests that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..mutants.__main__ import report
from ..mutants.mutant import load_mutants
from ..mutants.trial import Outcome, Trial, Workspace


@pytest.mark.slow
def test_every_mutant_can_be_tried() -> None:
    mutants = load_mutants()
    assert [fault for mutant in mutants for fault in mutant.faults()] == []
    assert len(mutants) >= 60


@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [
        (Outcome.KILLED, (0, 0)),
        (Outcome.SURVIVED, (1, 1)),
        (Outcome.STALE, (1, 1)),
        (Outcome.HUNG, (1, 0)),  # a slow machine may be the reason
        (Outcome.BROKEN, (1, 0)),
        (Outcome.UNTRIED, (0, 0)),
    ],
)
def test_a_slow_machine_is_no_failure_of_a_bounded_run(
    outcome: Outcome, statuses: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial(load_mutants()[0], outcome, 1.0, "why")
    assert (report([trial], 1.0, is_bounded=False), report([trial], 1.0, is_bounded=True)) == statuses
    assert (trial.mutant.name in capsys.readouterr().out) is (outcome is not Outcome.KILLED)


def test_no_mutant_is_tried_after_the_deadline(tmp_path: Path) -> None:
    space = object.__new__(Workspace)
    space.folder = tmp_path
    assert space.attempt(load_mutants()[0], deadline=0.0).outcome is Outcome.UNTRIED
