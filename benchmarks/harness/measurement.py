"""Figures: one value for each round, the target beside them, and how they are written down."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, once for each round. The median counts; a target is the most it may be."""

    name: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        return "met" if self.median <= self.target else "MISSED"

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "values": list(self.values),
            "target": self.target,
            "verdict": self.verdict or None,
        }


def ratio(subject: Figure, other: Figure, of: str, target: float | None = None) -> Figure:
    """Compare two figures round by round."""
    pairs = zip(subject.values, other.values, strict=True)
    return Figure(f"{subject.name}, ratio", f"of the {of}", tuple(s / o for s, o in pairs), target)


HEADINGS = ("figure", "median", "lowest-highest", "unit", "target", "")


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Give the cells of a table under `HEADINGS`."""
    return [
        (
            figure.name,
            _number(figure.median),
            f"{_number(min(figure.values))}-{_number(max(figure.values))}",
            figure.unit,
            "" if figure.target is None else f"<= {figure.target:g}",
            figure.verdict,
        )
        for figure in figures
    ]


def text_table(figures: Sequence[Figure]) -> str:
    """Write figures as a table for a terminal."""
    table = [HEADINGS, *rows(figures)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def markdown_table(figures: Sequence[Figure]) -> str:
    """Write figures as a table in Markdown."""
    table = [HEADINGS, tuple("---" for _ in HEADINGS), *rows(figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
