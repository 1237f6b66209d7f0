"""A whole run in several processes, one for each scenario, that can be stopped and gone on with."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, final

from .suite import Report


@final
class Done:
    """The scenarios that are done, in a file of JSON lines.

    They count for the same arguments and the same commit, with the same changes that are not committed.
    """

    def __init__(self, file: Path, arguments: Sequence[str]) -> None:
        self._file = file
        self._of = {"commit": _commit(), "arguments": list(arguments)}

    def read(self) -> dict[str, Report]:
        """Return what was found, by the names of the scenarios."""
        lines: list[dict[str, Any]] = []
        if self._file.exists():
            lines = [json.loads(line) for line in self._file.read_text().splitlines()]
        return {
            line["scenario"]: Report.from_json(line["report"])
            for line in lines
            if {name: line[name] for name in self._of} == self._of
        }

    def add(self, scenario: str, report: Report) -> None:
        """Add a scenario."""
        with self._file.open("a") as stream:
            stream.write(json.dumps({**self._of, "scenario": scenario, "report": report.to_json()}) + "\n")


def _commit() -> str:
    here = Path(__file__).parent
    head, changes = (
        subprocess.run(["git", *words], cwd=here, capture_output=True, check=True).stdout
        for words in (["rev-parse", "HEAD"], ["diff", "HEAD", "--", ":/trio_sse", ":/tests"])
    )
    suffix = f"+{hashlib.sha256(changes).hexdigest()[:12]}" if changes else ""
    return head.decode().strip() + suffix


def run_scenarios(names: Sequence[str], arguments: Sequence[str], jobs: int, done: Done | None) -> Report:
    """Run scenarios that are not done yet, each in a process of its own; return what was found in all."""
    report = Report()
    found = {} if done is None else done.read()
    left = [name for name in names if name not in found]
    for name in names:
        if name in found:
            report.add(found[name])
    if found:
        print(f"{len(names) - len(left)} of {len(names)} scenarios were done before", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(_run, name, arguments): name for name in left}
        for future in as_completed(running):
            one = future.result()
            report.add(one)
            if done is not None and one.combinations:
                done.add(running[future], one)
    return report


def _run(scenario: str, arguments: Sequence[str]) -> Report:
    with tempfile.TemporaryDirectory(prefix="interruptions-") as folder:
        file = Path(folder) / "report.json"
        command = [sys.executable, "-m", "tests.interruptions", *arguments, "--scenario", scenario]
        status = subprocess.run([*command, "--report", str(file)], check=False).returncode
        if file.exists():
            return Report.from_json(json.loads(file.read_text()))
        return Report(failures={scenario: f"its process has ended with {status}"})
