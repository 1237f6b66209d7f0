"""`--log-config`: Python's logging, configured by a file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from trio_sse.cli.options import set_up_logging

NAME = "tests.log_config"

CONFIGURATIONS = {
    "log.toml": f'[loggers."{NAME}"]\nlevel = "ERROR"\n',
    "log.json": json.dumps({"loggers": {NAME: {"level": "ERROR"}}}),
    "log.ini": (
        "[loggers]\nkeys=root,ours\n[handlers]\nkeys=\n[formatters]\nkeys=\n"
        f"[logger_root]\nhandlers=\n[logger_ours]\nlevel=ERROR\nhandlers=\nqualname={NAME}\n"
    ),
}


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """Return a logger, and leave all others as they are: `fileConfig` changes the root's handlers."""
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield logging.getLogger(NAME)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger(NAME).setLevel(logging.NOTSET)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_format_configures_loggers_and_disables_none(
    tmp_path: Path, logger: logging.Logger, name: str
) -> None:
    file = tmp_path / name
    file.write_text(CONFIGURATIONS[name])
    set_up_logging("info", str(file))
    assert logger.level == logging.ERROR
    assert not logging.getLogger("trio_sse.program").disabled


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.toml", "level ="),
        ("log.json", "[]"),
        ("log.json", '{"handlers": {"a": {"class": "nowhere.Handler"}}}'),
        ("log.ini", "no section"),
        ("log.ini", "[loggers]\nkeys=root\n"),
    ],
)
def test_a_file_that_cannot_be_used_is_reported(
    tmp_path: Path, logger: logging.Logger, name: str, text: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(click.ClickException, match="cannot use the logging configuration"):
        set_up_logging("info", str(file))
