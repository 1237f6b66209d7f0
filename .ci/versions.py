"""Run the tests with several versions of Python and of what the package depends on.

    make test-versions                              every environment, one after the other
    make test-versions ONLY=lowest                  those whose name has this text
    make test-versions ARGS="-m 'not integration'"  with other arguments for pytest

Each environment is a folder of its own in `.venv-versions`. What is not named here has its newest version. An
interpreter that the machine does not have is named at the end, and is no failure.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".venv-versions"

# Quart 0.23 needs Python 3.13, and changed the types of its proxies.
OLD_QUART = ("quart<0.23", "quart-trio<0.13")
NEW_QUART = ("quart>=0.23", "quart-trio>=0.13")

# The extras whose dependencies a user gets. `docs` and `dev` are for this project alone.
EXTRAS = ("cli", "quart", "hypercorn", "reload", "state", "redis")


@dataclass(frozen=True)
class Environment:
    """One interpreter, and which versions it gets."""

    name: str
    python: str
    constraints: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()  # installed last, whatever the tools of the checks ask for
    has_types: bool = True

    def prepare(self, interpreter: str) -> Path:
        """Set up the environment; return its interpreter."""
        folder = FOLDER / self.name
        python = folder / "bin" / "python"
        if not python.exists():
            subprocess.run([interpreter, "-m", "venv", "--clear", str(folder)], check=True)
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(self.constraints) + "\n")
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, "-c", str(constraints), "-e", f"{ROOT}[dev]"], check=True)
        if self.exact:
            subprocess.run([*install, "--no-deps", *self.exact], check=True)
        return python

    def test(self, interpreter: str, arguments: list[str]) -> str:
        """Run the checks; return how they ended."""
        try:
            python = self.prepare(interpreter)
        except subprocess.CalledProcessError:
            return "FAILED: cannot be set up"
        failed = []
        if self.has_types and subprocess.run([str(python), "-m", "mypy"], cwd=ROOT).returncode:
            failed.append("types")
        if subprocess.run([str(python), "-m", "pytest", *arguments], cwd=ROOT).returncode:
            failed.append("tests")
        return f"FAILED: {', '.join(failed)}" if failed else "passed"


def lowest() -> tuple[str, ...]:
    """Return the lowest versions that the project declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = list(project["dependencies"])
    for extra in EXTRAS:
        declared += project["optional-dependencies"][extra]
    found: dict[str, str] = {}
    for requirement in declared:
        match = re.fullmatch(r"([A-Za-z0-9-]+)(?:\[[a-z0-9,]+\])?>=([0-9.]+)", requirement)
        if match is not None:  # not an extra of the project's own
            name, version = match.groups()
            found[name] = max(found.get(name, "0"), version, key=_numbers)
    return tuple(f"{name}=={version}" for name, version in found.items())


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


ENVIRONMENTS = (
    Environment("3.11-lowest", "3.11", exact=lowest(), has_types=False),
    Environment("3.11-newest", "3.11"),
    Environment("3.12-newest", "3.12"),
    Environment("3.13-quart0.22", "3.13", OLD_QUART),
    Environment("3.13-quart0.23", "3.13", NEW_QUART),
    Environment("3.14-quart0.22", "3.14", OLD_QUART),
    Environment("3.14-quart0.23", "3.14", NEW_QUART),
)


def interpreter_of(version: str) -> str | None:
    """Return an interpreter of this version that works; `None` if there is none."""
    candidates = [shutil.which(f"python{version}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates += [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        if candidate is not None:
            probe = [candidate, "-c", "import ctypes, ensurepip, sqlite3, ssl, venv"]
            if subprocess.run(probe, capture_output=True).returncode == 0:
                return candidate
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="only the environments whose name has this text")
    parser.add_argument("--args", default="", help="arguments for pytest")
    options = parser.parse_args()
    arguments = shlex.split(options.args) or ["-q", "-n", "auto", "--dist", "worksteal"]
    results = {}
    for environment in ENVIRONMENTS:
        if options.only not in environment.name:
            continue
        interpreter = interpreter_of(environment.python)
        print(f"== {environment.name}", flush=True)
        if interpreter is None:
            results[environment.name] = f"not run: there is no Python {environment.python} here"
        else:
            results[environment.name] = environment.test(interpreter, arguments)
    for name, result in results.items():
        print(f"== {name}: {result}")
    return any(result.startswith("FAILED") for result in results.values())


if __name__ == "__main__":
    sys.exit(main())
