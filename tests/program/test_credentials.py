"""No output of the program shows the credentials of a URL or header."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..support.command_line import run
from ..support.programs import serving, trio_sse

pytestmark = pytest.mark.integration

SECRET = "s3cret"  # planted
STREAMS = "tests.support.apps.streams:server"


@pytest.mark.parametrize(
    "url",
    [
        "redis//:s3cret@127.0.0.1:1/0",
        "rediss:/user:s3cret@127.0.0.1/0",
        "http://user:s3cret@127.0.0.1/",
        "redis://user:s3cret@127.0.0.1:99999/0",
        "redis://user:s3cret@[::1/0",
        "redis://:s3cret@127.0.0.1:1/many",
        "sqlite:redis://:s3cret@127.0.0.1/0",
        ":s3cret@127.0.0.1",
    ],
)
def test_a_log_that_cannot_be_used_is_refused_without_its_credentials(url: str) -> None:
    options = ("--bind", "127.0.0.1:0", "--log-level", "debug")
    with trio_sse("serve", STREAMS, *options, env={"TRIO_SSE_LOG": url}) as program:
        assert program.wait() == 1
        assert "Error: --log: " in program.stderr.rest()
        assert SECRET not in program.stderr.text + program.stdout.text


def test_a_log_that_is_down_is_reported_without_its_credentials() -> None:
    options = ("--log", "redis://user:s3cret@127.0.0.1:1/0", "--log-level", "debug")
    with serving(STREAMS, *options) as (program, _):
        program.stderr.expect("the shared log is not available yet")
        program.process.terminate()
        program.wait()
        assert SECRET not in program.stderr.rest() + program.stdout.text


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@127.0.0.1:1/",
        "http://user:s3cret",
        "http://user:s3cret@127.0.0.1:port/",
        "http://user:s3/cret@127.0.0.1/",
        "user:s3cret@127.0.0.1",
        "https//user:s3cret@127.0.0.1/",
        "ftp://user:s3cret@127.0.0.1/",
        "http://user:s3cret@[::1/",
    ],
)
@pytest.mark.parametrize("command", ["tail", "load"])
def test_a_stream_that_cannot_be_reached_is_reported_without_its_credentials(command: str, url: str) -> None:
    options = ["--no-reconnect"] if command == "tail" else ["-c", "1", "-d", "0.1"]
    finished = run(command, url, *options)
    assert finished.returncode in (1, 2)
    assert "s3" not in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_stream_is_followed_without_showing_its_credentials(streams: str) -> None:
    url = streams.replace("://", "://user:s3cret@")
    finished = run("tail", f"{url}/text", "-n", "1")
    assert finished.returncode == 0
    assert finished.stderr == f"# connected to {streams}/text\n"


def test_a_report_of_a_load_does_not_show_credentials(streams: str, tmp_path: Path) -> None:
    url = streams.replace("://", "://user:s3cret@")
    report = tmp_path / "report.json"
    finished = run("load", f"{url}/ticks", "-c", "1", "-d", "1.5", "--json", str(report))
    assert finished.returncode == 0
    assert f'"{streams}/ticks"' in report.read_text()
    assert SECRET not in finished.stdout + finished.stderr + report.read_text()


@pytest.mark.parametrize("command", ["tail", "load"])
def test_a_malformed_header_is_refused_without_its_value(command: str) -> None:
    finished = run(command, "http://127.0.0.1:1/", "-H", "Authorization Bearer s3cret")
    assert finished.returncode == 2
    assert "--header: number 1 is not like 'NAME: VALUE'" in finished.stderr
    assert SECRET not in finished.stderr
