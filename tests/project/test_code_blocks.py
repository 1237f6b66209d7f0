"""The code in README.md and docs/: Python is type-checked, and commands have the options that they name."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest

from trio_sse.cli import main

from ..support.cases import Cases, each_case
from ..support.markdown import PAGES, ROOT, code_blocks, prose
from .check_types import BLOCKS, PYTHON, check_types

TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
GUIDES = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("program", "load"))


@pytest.mark.timeout(900)  # without mypy's cache, it reads the types of all frameworks
@pytest.mark.integration
def test_python_blocks_have_right_types() -> None:
    """`make test` leaves it out, as `make check`, which it runs, checks them with all other types."""
    assert len(PYTHON) > 30
    status, said = check_types()
    assert status == 0, said


def commands(text: str) -> list[list[str]]:
    """Return the commands of a shell block, without comments, each as its words."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def shell_commands() -> list[tuple[str, list[str]]]:
    """Return the commands of all shell blocks, with the blocks' names."""
    return [
        (block.name, words) for block in BLOCKS if block.language == "sh" for words in commands(block.text)
    ]


def command_of_the_program(name: str) -> click.Command:
    """Return a command of `trio-sse`."""
    assert isinstance(main, click.Group)
    command = main.get_command(click.Context(main), name)
    assert command is not None, name
    return command


def check_options(words: list[str]) -> None:
    """Have click parse a command of `trio-sse`."""
    command = command_of_the_program(words[0])
    command.make_parser(click.Context(command)).parse_args(words[1:])


def test_commands_of_the_program_have_the_options_that_they_name() -> None:
    checked = 0
    for name, words in shell_commands():
        if words[0] == "trio-sse":
            try:
                check_options(words[1:])
            except (click.UsageError, KeyError) as error:
                pytest.fail(f"{name}: {' '.join(words)}: {error}")
            checked += 1
    assert checked > 10


@each_case("command", ["serve", "tail", "load", "doctor"])
def test_every_option_of_the_program_is_documented(command: str) -> None:
    for parameter in command_of_the_program(command).params:
        if isinstance(parameter, click.Option):
            assert any(f"`{option}" in GUIDES or f" {option} " in GUIDES for option in parameter.opts), (
                parameter.opts
            )


def test_make_targets_and_modules_exist() -> None:
    with Cases() as cases:
        for page in PAGES:
            with cases.case(str(page.relative_to(ROOT))):
                check_make_targets_and_modules(page)


def check_make_targets_and_modules(page: Path) -> None:
    shell = "\n".join(block.text for block in code_blocks(page) if block.language == "sh")
    spans = "\n".join(re.findall(r"`([^`]+)`", prose(page)))
    for target in re.findall(r"^make ([a-z][\w-]*)", f"{shell}\n{spans}", re.MULTILINE):
        assert target in TARGETS, target
    for module in re.findall(r"python -m ((?:benchmarks|examples)[\w.]*)", f"{shell}\n{spans}"):
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        if spec.submodule_search_locations is not None:
            assert importlib.util.find_spec(f"{module}.__main__"), module
