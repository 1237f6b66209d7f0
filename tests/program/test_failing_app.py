"""`trio-sse serve` with an app that cannot be started."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from ..support.programs import serving, trio_sse
from ..support.waiting import until_blocking
from ..support.workers import pids_of

pytestmark = pytest.mark.integration

APP = "tests.support.apps.failing_app:app"
REASON = "the app could not start: the database is down"


def test_the_program_says_why_in_a_line_and_exits_with_1(tmp_path: Path) -> None:
    with trio_sse("serve", APP, "--bind", "127.0.0.1:0", env={"FAIL": str(tmp_path)}) as program:
        assert program.wait() == 1
        assert program.stderr.rest().endswith(f"\nError: {REASON}\n")
        assert "Traceback" not in program.stderr.text


def test_a_worker_says_why_in_a_line_and_is_restarted_with_backoff(tmp_path: Path) -> None:
    fail = tmp_path / "fail"
    options = ("--workers", "2", "--separate-hubs")
    with serving(APP, *options, env={"FAIL": str(fail)}) as (program, url):
        first = pids_of(url, 2)
        fail.touch()
        os.kill(min(first), signal.SIGKILL)
        for _ in range(2):
            slot = program.stderr.expect(rf"worker (\d) failed: {re.escape(REASON)}$")[1]
            delay = program.stderr.expect(rf"worker {slot}, .* exit status 1; restarting it in ([\d.]+) s")[1]
            assert float(delay) >= 0.5
        fail.unlink()
        until_blocking(lambda: len(pids_of(url, 2) - first) == 1)
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert "Traceback" not in program.stderr.rest()
