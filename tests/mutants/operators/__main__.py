"""`python -m tests.mutants.operators`: mutmut changes central files; exit with 1 if no test notices a change.

`files.toml` has the files, the tests that must notice the changes, and the changes that need not be noticed,
each with the reason. Names of files, or parts of them, choose some.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ..trial import Workspace

FILES = Path(__file__).with_name("files.toml")

# What a change is that its tests have noticed. The others are `survived`, `no tests` and `suspicious`.
_NOTICED = ("killed", "timeout", "caught by type check", "segfault")


@final
@dataclass(frozen=True)
class Change:
    """What mutmut has changed: the lines of a function before and after."""

    before: str
    after: str

    def __str__(self) -> str:
        return f"- {self.before}\n+ {self.after}"


def main(names: Sequence[str]) -> int:
    """Change the files with one of these names, or all; return the exit status."""
    status = 0
    for entry in tomllib.loads(FILES.read_text())["files"]:
        if not names or any(name in entry["file"] for name in names):
            status |= _try_file(entry)
    return status


def _try_file(entry: dict[str, Any]) -> int:
    explained = {Change(each["before"], each["after"]): each["why"] for each in entry.get("survivors", ())}
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        space = Workspace(Path(name))
        count, survivors = _run_mutmut(space, entry["file"], entry["tests"])
    unexplained = [f"{status}:\n{change}" for change, status in survivors if change not in explained]
    changes = {change for change, _ in survivors}
    stale = [f"explained, but noticed or gone:\n{change}" for change in explained if change not in changes]
    print(f"\n{entry['file']}: {count} changes, {len(survivors)} not noticed, {len(unexplained)} unexplained")
    print(*unexplained, *stale, sep="\n", flush=True)
    return 1 if unexplained or stale or not count else 0


def _run_mutmut(space: Workspace, file: str, tests: Sequence[str]) -> tuple[int, list[tuple[Change, str]]]:
    """Return how many changes there were, and those that no test has noticed, with their status."""
    options = {
        "source_paths": ["trio_sse"],
        "only_mutate": [file],
        "also_copy": ["trio_sse", "tests", "examples", "docs"],
        "pytest_add_cli_args_test_selection": list(tests),
        "timeout_multiplier": 4,  # of what the tests take otherwise; the change may be an endless loop
        "timeout_constant": 2,
    }
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    with (space.folder / "pyproject.toml").open("a") as stream:
        stream.write(f"\n[tool.mutmut]\n{lines}\n")
    output = _mutmut(space, "run", "--max-children", str(os.cpu_count() or 1))
    found = re.findall(r"^ +(\S+): (.+)$", _mutmut(space, "results", "--all", "true"), re.MULTILINE)
    if not found:
        print(output[-2000:])
    left = [(name, status) for name, status in found if status not in _NOTICED]
    return len(found), [(_change_of(_mutmut(space, "show", name)), status) for name, status in left]


def _mutmut(space: Workspace, *arguments: str) -> str:
    environment = {**os.environ, "TRIO_SSE_TEST_WAIT": "5"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-W", "ignore", "-m", "mutmut", *arguments]
    finished = subprocess.run(command, cwd=space.folder, env=environment, capture_output=True, text=True)
    return finished.stdout


def _change_of(shown: str) -> Change:
    removed = re.findall(r"^-(?!--)(.*)$", shown, re.MULTILINE)
    added = re.findall(r"^\+(?!\+\+)(.*)$", shown, re.MULTILINE)
    return Change(*("\n".join(line.strip() for line in lines) for lines in (removed, added)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
