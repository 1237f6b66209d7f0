"""The conformance suite: its scenarios, and which of their checks a server passes."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .environment import BUILD, node

#: A check, by its id and name. A scenario may make one several times.
Check = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a server has passed of a scenario, and how many checks there were."""

    passed: Counter[Check] = field(default_factory=Counter)
    made: Counter[Check] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.passed.total()} of {self.made.total()}"

    def add(self, other: Outcome) -> None:
        """Count what another run has passed, too."""
        self.passed.update(other.passed)
        self.made.update(other.made)


@dataclass(frozen=True, slots=True)
class Suite:
    """One version of the suite: the name of its package in `package.json`."""

    package: str

    @property
    def _folder(self) -> Path:
        return BUILD / "suites" / "node_modules" / self.package

    @property
    def version(self) -> str:
        about = json.loads((self._folder / "package.json").read_text())
        return f"{about['name']} {about['version']}"

    def run(self, url: str) -> dict[str, Outcome]:
        """Run all scenarios for servers; return what the server has passed, by scenario."""
        with tempfile.TemporaryDirectory() as results:
            program = [node(), str(self._folder / "dist" / "index.js")]
            arguments = ["server", "--url", f"{url}/mcp", "--suite", "all", "--output-dir", results]
            run = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
            outcomes = dict(map(_outcome, sorted(Path(results).glob("server-*/checks.json"))))
        assert outcomes, f"the suite has run nothing:\n{run.stdout}\n{run.stderr}"
        return outcomes


def _outcome(checks: Path) -> tuple[str, Outcome]:
    # The folder is `server-NAME-` and the time.
    scenario = re.sub(r"-\d{4}-\d\d-\d\dT.*", "", checks.parent.name.removeprefix("server-"))
    outcome = Outcome()
    for check in json.loads(checks.read_text()):
        key = (check["id"], check["name"])
        if check["status"] == "SUCCESS":
            outcome.passed[key] += 1
        if check["status"] in ("SUCCESS", "FAILURE", "WARNING"):
            outcome.made[key] += 1
    return scenario, outcome
