"""The mutants of `make mutants` are not stale, and name tests that there are."""

from __future__ import annotations

from ..mutants.mutant import load_mutants


def test_every_mutant_can_be_tried() -> None:
    mutants = load_mutants()
    assert [fault for mutant in mutants for fault in mutant.faults()] == []
    assert len(mutants) >= 60
