"""The two programs in C: the load and the floor."""

from __future__ import annotations

import subprocess

from benchmarks.harness.paths import BUILD, NATIVE

LOAD = BUILD / "load"
FLOOR = BUILD / "floor"


def build() -> None:
    """Build both programs, unless they are up to date."""
    subprocess.run(["make", "--silent", "-C", str(NATIVE)], check=True)
