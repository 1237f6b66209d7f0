"""The pages about the program: they name options that exist, and all of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from trio_sse.cli.config_file import parameters_by_key
from trio_sse.cli.serve import serve

PAGE = (Path(__file__).parents[2] / "docs/moving.md").read_text()
OURS = {
    name
    for parameter in serve.params
    if isinstance(parameter, click.Option)
    for name in (*parameter.opts, *parameter.secondary_opts)
}


def test_each_option_of_ours_exists() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
    named = {name for row in rows for name in re.findall(r"--[a-z][a-z0-9-]+", row.split(" | ")[-1])}
    assert len(named) > 25
    assert named <= OURS


@pytest.mark.parametrize("page", ["moving.md", "program.md"])
def test_each_key_of_a_configuration_file_exists(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    blocks = [block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "server =" in block]
    assert blocks
    for block in blocks:
        assert set(tomllib.loads(block)) <= dict(parameters_by_key(serve, "server")).keys()


def test_each_option_is_in_the_page_of_the_program() -> None:
    text = (Path(__file__).parents[2] / "docs/program.md").read_text()
    missing = [
        parameter.opts[0]
        for parameter in serve.params
        if isinstance(parameter, click.Option) and f"`{parameter.opts[0]}" not in text
    ]
    assert missing == []
