"""What a scenario has measured, judged by its bounds, and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import final

from benchmarks.harness.worker import Reply
from benchmarks.hostile.scenario import Scenario, Settings

_HEADINGS = (
    "scenario",
    "events",
    "in time",
    "longest",
    "newcomers",
    "memory MiB",
    "gone after s",
    "attackers",
    "",
)


@final
@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario has measured.

    Attributes:
        healthy: what the population reports at its end.
        far: the same of clients behind a bad network.
        memory: MiB by which the server has grown, at most.
        gone_after: seconds after the attack until nothing of it was left; `None` if something stayed.
        left: what was left at the end, if anything.
        attacked: the attackers' counts. Those of them that read their responses count one that is `cut`.
    """

    scenario: Scenario
    settings: Settings
    healthy: Reply
    far: Reply | None
    memory: float
    gone_after: float | None
    left: Mapping[str, float]
    attacked: Mapping[str, float]

    def faults(self) -> list[str]:
        """Return which bounds were broken."""
        found = _faults_of(self.healthy, self.settings, "")
        if self.far is not None:
            found += _faults_of(self.far, self.settings, "far: ")
        if self.memory > self.scenario.memory:
            found.append(f"grew by {self.memory:.0f} MiB")
        if cut := self.attacked.get("cut"):
            found.append(f"{cut:.0f} responses cut")
        if self.gone_after is None or self.gone_after > self.scenario.deadline:
            found.append(f"left: {dict(self.left)}" if self.left else "too late")
        return found

    def _gone(self) -> str:
        return "never" if self.gone_after is None else f"{self.gone_after:.1f}"

    def row(self) -> tuple[str, ...]:
        """Return its row of the table."""
        healthy = self.healthy
        most = ", ".join(f"{name} {count:.0f}" for name, count in sorted(self.attacked.items()))
        faults = self.faults()
        return (
            self.scenario.name,
            f"{healthy['expected']:.0f}",
            f"{_percent(healthy['in_time'], healthy['expected']):.2f} %",
            f"{healthy['longest']:.2f} s",
            f"{healthy['newcomers_in_time']:.0f}/{healthy['newcomers']:.0f}",
            f"{self.memory:.0f} of {self.scenario.memory:.0f}",
            f"{self._gone()} of {self.scenario.deadline:.0f}",
            most or "none",
            "; ".join(faults) if faults else "ok",
        )

    def as_json(self) -> dict[str, object]:
        """Return it as a value of JSON."""
        return {
            "name": self.scenario.name,
            "settings": asdict(self.settings),
            "healthy": dict(self.healthy),
            "far": None if self.far is None else dict(self.far),
            "memory_mib": round(self.memory, 1),
            "gone_after": self.gone_after,
            "left": dict(self.left),
            "attacked": dict(self.attacked),
            "faults": self.faults(),
        }


def _faults_of(reply: Reply, settings: Settings, prefix: str) -> list[str]:
    found = []
    if _percent(reply["in_time"], reply["expected"]) < settings.share:
        found.append(f"{_percent(reply['in_time'], reply['expected']):.2f} % in time")
    if _percent(reply["newcomers_in_time"], reply["newcomers"]) < settings.share:
        late = reply["newcomers"] - reply["newcomers_in_time"]
        found.append(f"{late:.0f} newcomers late")
    found += [f"{reply[name]:.0f} {name}" for name in ("lost", "repeated", "resets") if reply[name]]
    return [f"{prefix}{fault}" for fault in found]


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 100.0


def table(results: Sequence[Result], skipped: Mapping[str, str]) -> str:
    """Return a table for a terminal."""
    rows = [_HEADINGS, *(result.row() for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([*lines, *(f"{name}: SKIPPED, {reason}" for name, reason in skipped.items())])
