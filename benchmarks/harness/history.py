"""The history: the main measurements of a quick run, one line of JSON for each commit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.harness.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Value:
    """The median of one measurement.

    Attributes:
        floor_ratio: the median of the ratio to the floor of the same round. `None` for memory, which does not
            depend on the load of the machine.
    """

    median: float
    unit: str
    floor_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the history.

    Attributes:
        machine: the number of cores, the CPU's model and the version of Python.
    """

    commit: str
    date: str
    machine: dict[str, str]
    connections: int
    rounds: int
    values: dict[str, Value] = field(default_factory=dict)


def read(file: Path) -> list[Record]:
    """Return all records of a file, the oldest first."""
    if not file.exists():
        return []
    lines = map(json.loads, file.read_text().splitlines())
    return [
        Record(**{**line, "values": {name: Value(**value) for name, value in line["values"].items()}})
        for line in lines
    ]


def append(file: Path, record: Record) -> None:
    """Append a record. It replaces an earlier one of the same commit and machine."""
    kept = [other for other in read(file) if (other.commit, other.machine) != (record.commit, record.machine)]
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(asdict(each)) + "\n" for each in (*kept, record)))


def values(measurements: Sequence[Measurement], names: Sequence[str]) -> dict[str, Value]:
    """Return the values of the measurements with these names, and their ratios to the floor if measured."""
    by_name = {measurement.name: measurement for measurement in measurements}
    found = {}
    for name in names:
        ratio = by_name.get(f"{name}, ratio")
        found[name] = Value(
            round(by_name[name].median, 3),
            by_name[name].unit,
            None if ratio is None else round(ratio.median, 3),
        )
    return found


def changes(before: Record | None, now: Record) -> str:
    """Return a table of the record, and of what changed since another one, as ratios.

    If the machine or the number of connections differs, only ratios to the floor are compared.
    """
    is_comparable = before is not None and _conditions(before) == _conditions(now)
    rows = [("measurement", "median", "of the floor", "median, change", "of the floor, change", "unit")]
    for name, value in now.values.items():
        last = before.values.get(name) if before is not None else None
        rows.append(
            (
                name,
                f"{value.median:g}",
                "" if value.floor_ratio is None else f"{value.floor_ratio:g}",
                _change(value.median, last.median if last is not None and is_comparable else None),
                _change(value.floor_ratio, last.floor_ratio if last is not None else None),
                value.unit,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _conditions(record: Record) -> tuple[dict[str, str], int]:
    return record.machine, record.connections


def _change(value: float | None, before: float | None) -> str:
    return f"{value / before:.3f}" if value is not None and before else ""
