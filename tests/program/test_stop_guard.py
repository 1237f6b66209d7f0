"""Neither threads at work nor code that blocks the event loop delay a stop."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trio_sse._program.stop_guard import ABANDONED

from ..support import http
from ..support.certificates import Certificate
from ..support.programs import Program, RawStream, serving
from ..support.waiting import until_blocking
from ..support.workers import is_alive

pytestmark = pytest.mark.integration

WORKERS = ("--workers", "2", "--separate-hubs")


@contextmanager
def busy(
    tmp_path: Path, path: str, *options: str, drain_timeout: str = "0.5"
) -> Iterator[tuple[Program, int]]:
    """Serve a stream that never ends by itself; yield the program and the process that serves it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    env = {"FIFO": str(fifo), "DRAIN_TIMEOUT": drain_timeout}
    with (
        serving("tests.support.apps.busy:server", *options, env=env) as (program, url),
        RawStream(f"{url}/{path}") as stream,
    ):
        yield program, int(stream.read_until(b"\n\n").rpartition(b"data: ")[2].split()[0])


REST = {
    "thread": r"without what did not end: thread 'work from in_thread' \(.*busy\.py, line \d+\); "
    r"task in_thread \(.*busy\.py, line \d+\)",
    "block": r"without what did not end: the main thread is blocked \(.*busy\.py, line \d+\)",
}


@pytest.mark.parametrize("path", ["thread", "block"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_takes_too_long_ends_the_process(
    tmp_path: Path, path: str, number: signal.Signals
) -> None:
    with busy(tmp_path, path) as (program, _):
        program.send(number)
        assert program.wait() == ABANDONED
        assert re.search(REST[path], program.stderr.rest())


def test_a_second_interrupt_abandons_threads_at_once(tmp_path: Path) -> None:
    with busy(tmp_path, "thread", drain_timeout="inf") as (program, _):
        program.send(signal.SIGINT)
        program.stderr.expect("SIGINT: draining")
        program.send(signal.SIGINT)
        assert program.wait() == ABANDONED
        assert re.search(REST["thread"], program.stderr.rest())


def test_a_second_interrupt_abandons_threads_of_an_app_on_hypercorn(
    tmp_path: Path, certificate: Certificate
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    env = {"FIFO": str(fifo), "DRAIN_TIMEOUT": "1"}
    options = ("--host", "hypercorn", "--certfile", certificate.chain, "--keyfile", certificate.key)
    with (
        serving("tests.support.apps.busy:app", *options, env=env) as (program, url),
        http.Client(base_url=url, http2=True, verify=False) as client,
    ):
        response = client.send(client.build_request("GET", "/"), stream=True)
        assert next(response.iter_lines()) == "begun"
        program.send(signal.SIGINT)
        program.stderr.expect("SIGINT: draining")
        program.send(signal.SIGINT)
        assert program.wait() == ABANDONED
        assert "thread 'work from" in program.stderr.rest()


@pytest.mark.parametrize("path", ["thread", "block"])
def test_a_worker_whose_stop_takes_too_long_says_why_and_ends(tmp_path: Path, path: str) -> None:
    with busy(tmp_path, path, *WORKERS) as (program, pid):
        program.send(signal.SIGTERM)
        program.stderr.expect(REST[path])
        program.stderr.expect(f"pid {pid}, ended: exit status {ABANDONED}")
        assert program.wait() == 0


@pytest.mark.parametrize("path", ["thread", "block"])
def test_a_busy_worker_ends_with_its_supervisor(tmp_path: Path, path: str) -> None:
    with busy(tmp_path, path, *WORKERS) as (program, pid):
        program.send(signal.SIGKILL)
        program.stderr.expect(REST[path])
        until_blocking(lambda: not is_alive(pid))
