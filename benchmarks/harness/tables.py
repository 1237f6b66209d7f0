"""Measurements as tables, for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness.measurement import Measurement

_HEADINGS = ("measurement", "median", "lowest-highest", "unit", "target", "")


def text_table(measurements: Sequence[Measurement]) -> str:
    """Return a table for a terminal."""
    table = [_HEADINGS, *map(_row, measurements)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def markdown_table(measurements: Sequence[Measurement]) -> str:
    """Return a table in Markdown."""
    table = [_HEADINGS, tuple("---" for _ in _HEADINGS), *map(_row, measurements)]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def _row(measurement: Measurement) -> tuple[str, ...]:
    return (
        measurement.name,
        _number(measurement.median),
        f"{_number(min(measurement.values))}-{_number(max(measurement.values))}",
        measurement.unit,
        "" if measurement.target is None else f"<= {measurement.target:g}",
        measurement.verdict,
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
