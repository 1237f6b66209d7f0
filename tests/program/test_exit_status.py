"""The program's exit status does not depend on who reads its output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ..support import http
from ..support.forks import Fork
from ..support.programs import read_up_to, start
from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration

APP = "tests.support.apps.streams:server"
WORKERS = ["--workers", "2", "--separate-hubs"]


@contextmanager
def broken_pipe() -> Iterator[int]:
    """Return the writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def exit_status(*arguments: str, broken: str) -> int:
    """Run the program to its end with broken pipes; return its exit status."""
    with ExitStack() as stack:
        outputs = {name: stack.enter_context(broken_pipe()) for name in broken.split()}
        process = start(
            [sys.executable, "-m", "trio_sse", *arguments],
            outputs=(outputs.get("stdout", subprocess.DEVNULL), outputs.get("stderr", subprocess.DEVNULL)),
        )
        try:
            return process.wait(SECONDS)
        finally:
            process.kill()


@contextmanager
def stopped_with_0(*arguments: str) -> Iterator[tuple[subprocess.Popen[str] | Fork, str]]:
    """Run a server that writes to pipes; yield it and its URL, then stop it and check its exit status."""
    process = start([sys.executable, "-m", "trio_sse", *arguments, "--bind", "127.0.0.1:0"])
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            yield process, read_up_to(process.stdout, r"(http://\S+?)/?[ \n]")[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
            process.wait(SECONDS)


@pytest.mark.parametrize("broken", ["stdout", "stderr"])
@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (["serve", APP], "serving on"),
        (["serve", APP, "--status-file", "STATUS"], "serving on"),
        (["serve", APP, *WORKERS], "worker 1 started"),
        (["demo"], "serving on"),
    ],
    ids=["serve", "supervised", "workers", "demo"],
)
def test_a_server_whose_output_breaks_exits_with_0(
    tmp_path: Path, arguments: list[str], started: str, broken: str
) -> None:
    arguments = [str(tmp_path / "status.json") if each == "STATUS" else each for each in arguments]
    with stopped_with_0(*arguments) as (process, url):
        read_up_to(process.stderr, started)
        getattr(process, broken).close()
        http.get(url)


def test_a_broken_log_that_is_longer_than_a_buffer_does_not_stop_the_server() -> None:
    with stopped_with_0("serve", APP) as (process, url), http.Client() as client:
        assert process.stderr is not None
        process.stderr.close()
        for _ in range(100):
            assert client.get(f"{url}/count/1").text.endswith('{"n":1}\n\n')


@pytest.mark.parametrize("broken", ["stdout", "stderr", "stdout stderr"])
@pytest.mark.parametrize(
    ("command", "options", "status"),
    [
        ("tail", ["-n", "1"], 0),
        ("load", ["-c", "1", "-d", "1.5"], 0),
        ("load", ["-c", "many"], 2),
    ],
    ids=["tail", "load", "wrong usage"],
)
def test_a_client_whose_output_is_broken_exits_as_it_would(
    streams: str, command: str, options: list[str], status: int, broken: str
) -> None:
    assert exit_status(command, f"{streams}/ticks", *options, broken=broken) == status


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "no_such_module:app"],
        ["serve", APP, *WORKERS, "--bind", "192.0.2.1:0"],
        ["demo", "--bind", "192.0.2.1:0"],
        ["tail", "http://127.0.0.1:1/", "--no-reconnect"],
        ["load", "http://127.0.0.1:1/", "-c", "1", "-d", "0.2"],
    ],
    ids=["serve", "workers", "demo", "tail", "load"],
)
def test_an_error_that_nobody_reads_is_still_an_error(arguments: list[str]) -> None:
    assert exit_status(*arguments, broken="stdout stderr") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["serve", "--help"], ["doctor", "-c", "1"]],
    ids=["help", "version", "help of a command", "doctor"],
)
def test_output_that_nobody_reads_is_no_error(arguments: list[str]) -> None:
    assert exit_status(*arguments, broken="stdout stderr") == 0


@pytest.mark.parametrize("arguments", [["--log-format", "json"], WORKERS], ids=["one process", "workers"])
def test_a_log_that_nobody_reads_stops_nothing(arguments: list[str]) -> None:
    with stopped_with_0("serve", APP, "--access-log", *arguments) as (_, url):
        connection = HTTPConnection(url.removeprefix("http://"), timeout=SECONDS)
        for _ in range(1500):  # a pipe holds some 500 of the lines
            connection.request("GET", "/" + "y" * 150)
            assert connection.getresponse().read() == b"Not Found\n"
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
