"""The configuration file of `trio-sse serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from trio_sse.cli.config_file import config_option
from trio_sse.cli.grouped_options import grouped


def invoke(text: str, folder: Path, *arguments: str, **env: str) -> tuple[dict[str, Any], Result]:
    """Return what a command receives that has an option of each kind, and its result."""
    seen: dict[str, Any] = {}

    @click.command
    @click.argument("target", metavar="WHAT", envvar="TARGET")
    @config_option("server", envvar="CONFIG")
    @click.option("--bind", "addresses", multiple=True, envvar="BIND")
    @click.option("--max-duration", type=float, envvar="DURATION")
    @click.option("--http2", is_flag=True, envvar="HTTP2")
    @grouped(
        "group",
        dict,
        ["workers", "log_level"],
        [
            click.option("--workers", type=click.IntRange(min=1), default=1, envvar="HOW_MANY"),
            click.option("--log-level", type=click.Choice(["info", "error"]), envvar="LEVEL"),
        ],
    )
    def command(**values: Any) -> None:
        seen.update(values)

    file = folder / "serve.toml"
    file.write_text(text)
    result = CliRunner().invoke(command, ["--config", str(file), *arguments], env=env)
    return seen, result


FILE = """
server = "app:server"
bind = ["a:1", "b:2"]
max-duration = 60
http2 = true
workers = 2
log_level = "error"
"""


def test_each_option_can_be_in_the_file(tmp_path: Path) -> None:
    seen, _ = invoke(FILE, tmp_path)
    assert seen == {
        "target": "app:server",
        "addresses": ("a:1", "b:2"),
        "max_duration": 60.0,
        "http2": True,
        "group": {"workers": 2, "log_level": "error"},
    }


def test_the_environment_overrides_the_file_and_the_command_line_both(tmp_path: Path) -> None:
    seen, _ = invoke(
        FILE,
        tmp_path,
        "other:server",
        "--max-duration",
        "5",
        DURATION="30",
        HOW_MANY="3",
        BIND="c:3 d:4",
    )
    assert seen["target"] == "other:server"
    assert seen["max_duration"] == 5
    assert seen["group"]["workers"] == 3
    assert seen["addresses"] == ("c:3", "d:4")


def test_one_value_is_enough_for_an_option_that_can_be_repeated(tmp_path: Path) -> None:
    seen, _ = invoke('server = "a"\nbind = "a:1"', tmp_path)
    assert seen["addresses"] == ("a:1",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-durration = 3", "there is no option 'max-durration'; did you mean 'max-duration'?"),
        ("max_durations = 3", "did you mean 'max-duration'?"),
        ("config = 'x'", "there is no option 'config'"),
        ("zzz = 1", "there is no option 'zzz'\n"),
        ("[http2]\na = 1", "http2: it must be true or false"),
        ("http2 = 'yes'", "http2: it must be true or false"),
        ("workers = true", "workers: it must be a text or a number"),
        ("workers = [1, 2]", "workers: it must be a text or a number"),
        ("workers = 0", "workers: 0 is not in the range x>=1."),
        ("workers = 'many'", "workers: 'many' is not a valid integer range."),
        ("log-level = 'loud'", "log-level: 'loud' is not one of"),
        ("workers = 1.5", "workers: '1.5' is not a valid integer range."),
        ("workers = inf", "workers: 'inf' is not a valid integer range."),
        ('log-level = "a\\u0000"', "log-level: it must be a text or a number"),
        ("bind = [['a']]", "bind: it must be a list of texts or numbers"),
        ("max-duration = 1979-05-27", "max-duration: it must be a text or a number"),
        ("bind = ", "cannot read "),
    ],
)
def test_what_is_wrong_with_a_file_is_reported_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    _, result = invoke(text, tmp_path, "app:server")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "serve.toml: " in result.output
    assert message in result.output
    assert result.output.count("\n") == 1
