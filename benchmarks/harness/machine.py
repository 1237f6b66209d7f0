"""The machine and the software that were measured. Absolute times mean nothing without them."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.harness.cores import ALL_CORES
from benchmarks.harness.paths import ROOT


def facts() -> dict[str, str]:
    """Return the properties of the machine and the versions of the software, by name."""
    load = " ".join(f"{average:.2f}" for average in os.getloadavg())
    return {
        "cpu": _cpu_model(),
        "cores": str(len(ALL_CORES)),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in ("trio", "h11", "quart", "quart-trio", "hypercorn")},
        "trio_sse": _commit(),
        "load before": load,
    }


def identity() -> dict[str, str]:
    """Return what must be the same for absolute times to be compared."""
    return {name: value for name, value in facts().items() if name in ("cpu", "cores", "python")}


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Return the name of the measured commit. Results are compared by it."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "not in git"
    return described.stdout.strip()
