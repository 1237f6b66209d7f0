"""What a benchmark measures: one value for each round, and the target."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """One quantity, measured once in each round. The median counts. The target is the allowed maximum."""

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


def ratio(
    subject: Measurement, reference: Measurement, reference_name: str, target: float | None = None
) -> Measurement:
    """Return the ratio of two measurements, taken within each round."""
    pairs = zip(subject.values, reference.values, strict=True)
    values = tuple(ours / theirs for ours, theirs in pairs)
    return Measurement(f"{subject.name}, ratio", f"of {reference_name}", values, target)
