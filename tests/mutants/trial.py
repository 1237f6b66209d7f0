"""Trying a mutant: its tests run on a copy of the project, in which its change was made.

The tests run in the copy's folder, and PYTHONPATH names it too, so the programs that tests start import the
mutant as well.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import final

from .mutant import ROOT, Mutant

# What the tests need of the project.
_COPIED = ("trio_sse", "tests", "examples", "docs", "pyproject.toml")

# How long a mutant's tests wait for what does not happen: those that it breaks often wait in vain.
_WAIT_SECONDS = 5

# pytest-timeout's: a test that it has to end has no deadline of its own.
_TEST_SECONDS = 60

# For all tests of a mutant, and for a run without mutants.
_TRIAL_SECONDS = 180
_BASELINE_SECONDS = 900


class Outcome(Enum):
    """How a trial ended."""

    KILLED = "killed"
    """A test has failed, by an assertion or by a deadline of its own."""

    SURVIVED = "SURVIVED"
    """All its tests have passed."""

    STALE = "STALE"
    """The text before the change does not occur exactly once."""

    HUNG = "HUNG"
    """A test waited without a deadline of its own."""

    BROKEN = "BROKEN"
    """The tests could not be run."""

    UNTRIED = "untried"
    """The time for all trials was over before its own ended."""


@final
@dataclass(frozen=True)
class Trial:
    """A mutant, how its trial ended, and after how many seconds.

    Attributes:
        detail: the test that failed and why, or the end of what pytest printed.
    """

    mutant: Mutant
    outcome: Outcome
    seconds: float
    detail: str = ""


@final
class Workspace:
    """A copy of the project, in which one mutant after the other is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("build", ".hypothesis", "results")
        for name in _COPIED:
            source, target = ROOT / name, folder / name
            if source.is_dir():
                # With its compiled modules, and the times that they were compiled for.
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy2(source, target)

    def run(self, tests: Sequence[str], *options: str, seconds: float) -> tuple[int | None, str]:
        """Run tests; return pytest's exit status, or `None` if it did not end, and what it printed."""
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider"]
        command += [f"--timeout={_TEST_SECONDS}", *options, *tests]
        changes = {"PYTHONPATH": str(self.folder), "COLUMNS": "250", "TRIO_SSE_TEST_WAIT": str(_WAIT_SECONDS)}
        environment = {**os.environ, **changes}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # the programs that the tests start end with them
        )
        try:
            output, _ = process.communicate(timeout=seconds)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def failures(self, tests: Sequence[str], jobs: int) -> str:
        """Run tests without a mutant; return what has failed, or nothing."""
        status, output = self.run(tests, "-n", str(jobs), "--dist=worksteal", seconds=_BASELINE_SECONDS)
        return "" if status == 0 else "\n".join(_failed_tests(output)) or output[-2000:] or "they did not end"

    def attempt(self, mutant: Mutant, deadline: float = math.inf) -> Trial:
        """Run a mutant's tests until one fails, or until a time of the monotonic clock."""
        began_at = time.monotonic()
        left = deadline - began_at
        if left <= 0:
            return Trial(mutant, Outcome.UNTRIED, 0.0)
        path = self.folder / mutant.file
        original = path.read_bytes()
        try:
            changed = mutant.apply(original.decode())
        except ValueError as failure:
            return Trial(mutant, Outcome.STALE, 0.0, str(failure))
        try:
            self._write(path, changed.encode())
            status, output = self.run(mutant.tests, "-x", seconds=min(_TRIAL_SECONDS, left))
        finally:
            self._write(path, original)
        seconds = time.monotonic() - began_at
        if status is None and left < _TRIAL_SECONDS:
            return Trial(mutant, Outcome.UNTRIED, seconds)
        outcome, detail = _judge(status, output)
        return Trial(mutant, outcome, seconds, detail)

    def _write(self, path: Path, text: bytes) -> None:
        """Write a module; what was compiled from it in the same second must not be taken for it."""
        path.write_bytes(text)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()


def _judge(status: int | None, output: str) -> tuple[Outcome, str]:
    failed = "; ".join(_failed_tests(output))
    if status is None or "from pytest-timeout" in failed:
        return Outcome.HUNG, failed
    if status == 0:
        passed = re.search(r"\d+ passed", output)
        return (Outcome.SURVIVED, passed[0]) if passed else (Outcome.BROKEN, "no test was run")
    return (Outcome.KILLED, failed) if status == 1 and failed else (Outcome.BROKEN, output[-2000:])


def _failed_tests(output: str) -> list[str]:
    """Return the tests that failed, or whose fixtures found something left, with what was raised."""
    return re.findall(r"^(?:FAILED|ERROR) (tests/\S+::.*)$", output, re.MULTILINE)
