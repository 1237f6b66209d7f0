"""The file of a whole run, by which it goes on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .processes import Done, run_scenarios
from .suite import Report


def test_a_whole_run_goes_on_with_what_is_not_done(tmp_path: Path) -> None:
    file = tmp_path / "done.jsonl"
    one = Report(3, 2, {"a case": "why"}, Counter(hub=3), 1.5)
    Done(file, ["--seeds", "2"]).add("one", one)
    Done(file, ["--seeds", "2"]).add("two", Report(4, 1, {}, Counter(hub=1, run=3), 1.0))

    total = run_scenarios(["one", "two"], ["--seeds", "2"], 2, Done(file, ["--seeds", "2"]))

    assert total == Report(7, 3, {"a case": "why"}, Counter(hub=4, run=3), 2.5)
    assert Done(file, ["--seeds", "3"]).read() == {}
