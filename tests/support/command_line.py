"""The program, run to its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .programs import ROOT, environment
from .waiting import SECONDS

APP = "tests.support.apps.streams:server"
FINAL_CHUNK = b"0\r\n\r\n"


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [sys.executable, "-m", "trio_sse", *arguments],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
