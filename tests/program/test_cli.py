"""The program `trio-sse` as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest
from click.testing import Result

from ..support.command_line import APP, run
from ..support.programs import ROOT, environment

pytestmark = pytest.mark.integration

NAMES = ["demo", "doctor", "load", "serve", "tail", "top"]


def test_it_prints_its_version_and_its_commands() -> None:
    assert run("--version").stdout == f"trio-sse, version {version('trio-sse')}\n"
    text = run("--help").stdout
    assert re.findall(r"^  (serve|demo|tail|load|doctor|top) ", text, re.MULTILINE) == NAMES


@pytest.mark.parametrize("command", NAMES)
def test_each_command_has_help(invoke: Callable[..., Result], command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f" {command} [OPTIONS]" in result.output


@pytest.mark.parametrize(
    ("missing", "command"),
    [("click", ["serve", APP]), ("psutil", ["demo"]), ("httpx", ["tail", "http://127.0.0.1:1/"])],
)
def test_without_its_extra_it_says_how_to_get_it(missing: str, command: list[str]) -> None:
    block = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {command!r}"
    code = f"{block}; import runpy; runpy.run_module('trio_sse', run_name='__main__')"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=30
    )
    assert finished.returncode == 1
    assert "pip install 'trio-sse[cli]'" in finished.stderr
    assert "Traceback" not in finished.stderr
