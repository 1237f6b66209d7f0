"""What a run needs, in `build/mcp`: the app's environment, the suite, and a Node that can run it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from ..support.programs import ROOT

HERE = Path(__file__).parent
APP = HERE / "app"
BUILD = ROOT / "build" / "mcp"
PYTHON = BUILD / "venv" / "bin" / "python"

# The suite uses `fs.globSync`. Where the system's Node is older, this version comes from npm.
_OLDEST_NODE = 22
_NODE = "node@22.23.3"


def set_up() -> None:
    """Install everything, or what is missing."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", BUILD / "venv"], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / "requirements.txt"), "-e", f"{ROOT}[cli]"], check=True)
    suites = BUILD / "suites"
    suites.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", suites)
    _npm_install(suites)
    if _version_of("node") < _OLDEST_NODE:
        (BUILD / "node").mkdir(exist_ok=True)
        _npm_install(BUILD / "node", _NODE)


def node() -> str:
    """Return the Node that runs the suites."""
    own = BUILD / "node" / "node_modules" / ".bin" / "node"
    return str(own) if own.exists() else "node"


def _npm_install(folder: Path, *packages: str) -> None:
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    subprocess.run(["npm", "install", *options, *packages], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _version_of(program: str) -> int:
    if shutil.which(program) is None:
        return 0
    printed = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)", printed)
    return int(found[1]) if found else 0
