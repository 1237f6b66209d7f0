"""The limit of open files is raised as far as the system allows."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from trio_sse._process.descriptors import (
    first_reserved,
    first_to_raise_for,
    log_descriptor_limit,
    raise_descriptor_limit,
)

from ..support.waiting import SECONDS

resource = pytest.importorskip("resource", reason="this platform has no such limits")

# The limits are the whole process's, so each case has its own process.
LOWERED = """
import logging, resource, sys
from trio_sse._process.descriptors import raise_descriptor_limit

hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 4096)
if hard == resource.RLIM_INFINITY:
    hard = 4096
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), hard))
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(levelname)s %(message)s")
for _ in range(int(sys.argv[2])):
    raise_descriptor_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard), hard)
"""


@pytest.mark.integration
def test_the_soft_limit_is_raised_to_the_hard_one_once() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", LOWERED, "256", "2"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    first, second, last = finished.stdout.splitlines()
    hard = last.removeprefix("True ")
    assert first == f"INFO raised the file descriptor limit from 256 to {hard}"
    assert second == f"INFO the file descriptor limit is {hard}"


def test_a_refused_limit_is_logged_and_not_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, -1))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_descriptor_limit()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == "the file descriptor limit stays at 256: not allowed to raise maximum limit"


def test_a_system_that_refuses_no_limit_is_asked_for_less(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse_infinity(which: int, limits: tuple[int, int]) -> None:  # as macOS does
        if limits[0] == resource.RLIM_INFINITY:
            raise ValueError("current limit exceeds maximum limit")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse_infinity)
    assert raise_descriptor_limit() == 10_240
    assert [record.message for record in caplog.records] == [
        "raised the file descriptor limit from 256 to 10240"
    ]


def test_no_limit_is_logged_as_unlimited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (-1, -1))
    raise_descriptor_limit()
    log_descriptor_limit()
    assert [record.message for record in caplog.records] == ["the file descriptor limit is unlimited"] * 2
    assert first_to_raise_for() == first_reserved() == sys.maxsize


def test_a_limit_that_can_be_raised_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    log_descriptor_limit()
    (record,) = caplog.records
    assert "is 1024, and is raised to 4096 when half of it is used" in record.message
    assert first_to_raise_for() == 512


def test_a_platform_without_limits_is_accepted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "resource", None)
    raise_descriptor_limit()
    log_descriptor_limit()
    assert not caplog.records
    assert first_to_raise_for() == sys.maxsize
