"""The benchmarks: the commands that the documentation names, and the history."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from benchmarks.harness import history
from benchmarks.harness.history import Record, Value
from benchmarks.harness.measurement import Measurement, ratio

from ..support.cases import each_case
from ..support.programs import ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md", ROOT / "Makefile"]
COMMANDS = sorted(
    {name for page in PAGES for name in re.findall(r"python -m benchmarks\.(\w+)", page.read_text())}
)

MACHINE = {"cpu": "a CPU", "cores": "2", "python": "CPython 3.11"}


@each_case("name", COMMANDS)
def test_a_documented_command_exists(name: str) -> None:
    assert importlib.util.find_spec(f"benchmarks.{name}") is not None


def test_the_readme_lists_each_scenario() -> None:
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    listed = set(re.findall(r"^(?:\| `|python -m benchmarks\.)(\w+)", readme, re.MULTILINE))
    scenarios = {file.stem for file in (ROOT / "benchmarks" / "scenarios").glob("*.py")} - {"__init__"}
    assert scenarios <= listed


def record(commit: str, burst: float, floor_ratio: float, machine: dict[str, str] = MACHINE) -> Record:
    values = {"burst": Value(burst, "us", floor_ratio), "idle": Value(6.5, "KiB")}
    return Record(commit, "2026-01-01T00:00:00+00:00", machine, 2000, 5, values)


def test_a_record_is_read_as_it_was_written_and_replaces_that_of_its_commit(tmp_path: Path) -> None:
    file = tmp_path / "history" / "quick.jsonl"
    assert history.read(file) == []
    for each in (record("a", 1.0, 0.2), record("b", 2.0, 0.3), record("b", 3.0, 0.4)):
        history.append(file, each)
    assert history.read(file) == [record("a", 1.0, 0.2), record("b", 3.0, 0.4)]


def test_changes_are_ratios_to_the_record_before() -> None:
    burst, idle = history.changes(record("a", 1.0, 0.2), record("b", 1.1, 0.25)).splitlines()[1:]
    assert burst.split() == ["burst", "1.1", "0.25", "1.100", "1.250", "us"]
    assert idle.split() == ["idle", "6.5", "1.000", "KiB"]


def test_medians_of_different_machines_are_not_compared() -> None:
    other = record("a", 1.0, 0.2, {**MACHINE, "cores": "4"})
    assert history.changes(other, record("b", 1.1, 0.25)).splitlines()[1].split() == [
        "burst",
        "1.1",
        "0.25",
        "1.250",
        "us",
    ]


def test_values_have_the_medians_and_the_ratios_to_the_floor() -> None:
    ours, floor = (
        Measurement("burst", "us", (1.0, 3.0, 2.0)),
        Measurement("burst, floor", "us", (4.0, 4.0, 4.0)),
    )
    measurements = [ours, floor, ratio(ours, floor, "the floor"), Measurement("idle", "KiB", (6.5,))]
    assert history.values(measurements, ["burst", "idle"]) == {
        "burst": Value(2.0, "us", 0.5),
        "idle": Value(6.5, "KiB"),
    }
