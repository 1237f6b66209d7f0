"""The program, run to its end."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .programs import ROOT, trio_sse

APP = "tests.support.apps.streams:server"
FINAL_CHUNK = b"0\r\n\r\n"


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    with trio_sse(*arguments, cwd=cwd) as program:
        status = program.wait()
        output, errors = program.stdout.rest(), program.stderr.rest()
    return subprocess.CompletedProcess(arguments, status, output, errors)
