"""`trio-sse serve` with an app whose lifespan ends while the app is served."""

from __future__ import annotations

import signal

import pytest

from ..support import http
from ..support.programs import serving

pytestmark = pytest.mark.integration

APP = "tests.support.apps.short_lifespan:app"
REASON = "the app's lifespan has ended while the app was served"


def test_the_program_exits_with_1() -> None:
    with serving(APP) as (program, url):
        assert http.get(f"{url}/fail").text == "ok"
        assert program.wait() == 1
        assert program.stderr.rest().endswith(f"\nError: {REASON}\n")
        assert program.stderr.text.count("ValueError: a task of the app has failed") == 1


def test_on_hypercorn_the_program_exits_with_1() -> None:
    with serving(APP, "--host", "hypercorn") as (program, url):
        assert http.get(f"{url}/fail").text == "ok"
        assert program.wait() == 1
        assert program.stderr.rest().endswith(f"\nError: {REASON}\n")
        assert program.stderr.text.count("ValueError: a task of the app has failed") == 1


def test_a_worker_exits_with_1_and_is_restarted() -> None:
    with serving(APP, "--workers", "2", "--separate-hubs") as (program, url):
        assert http.get(f"{url}/fail").text == "ok"
        slot = program.stderr.expect(rf"worker (\d) failed: {REASON}$")[1]
        program.stderr.expect(rf"worker {slot}, .* exit status 1; restarting it")
        program.stderr.expect(f"worker {slot} started")
        program.send(signal.SIGTERM)
        assert program.wait() == 0
