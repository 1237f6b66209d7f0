"""`trio-sse demo`, run as users run it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from ..support import http
from ..support.command_line import FINAL_CHUNK, run
from ..support.programs import ROOT, RawStream, trio_sse

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Return the URL of a dashboard."""
    with trio_sse("demo", "--bind", "127.0.0.1:0", "--log-level", "warning") as program:
        url = program.stdout.expect(r"^Dashboard of this machine: +(http://\S+)/$")[1]
        command = program.stdout.expect(r"^The same in a terminal: +(.*)$")[1]
        assert command == f"curl -N {url}/events"
        link = program.stdout.expect(r"^The server's console: +(.*)$")[1]
        assert link.startswith(f"{url}/_sse/#token=")
        assert program.stdout.expect(r"^The same in a terminal: +(.*)$")[1] == f"trio-sse top '{link}'"
        assert http.get(link).status_code == 200
        yield url
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert program.stderr.rest() == ""


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/static/app.js", "text/javascript"),
        ("/static/theme.js", "text/javascript"),
        ("/static/vendor/uPlot.iife.min.js", "text/javascript"),
        ("/static/style.css", "text/css"),
        ("/static/favicon.svg", "image/svg+xml"),
        ("/static/vendor/uPlot-LICENSE", "text/plain"),
    ],
)
def test_the_demo_serves_its_files(demo: str, path: str, content_type: str) -> None:
    response = http.get(f"{demo}{path}")
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == content_type
    name = "index.html" if path == "/" else path.removeprefix("/static/")
    own, common = (ROOT / "trio_sse" / folder / name for folder in ("demo/static", "static/common"))
    assert response.content == (own if own.exists() else common).read_bytes()


@pytest.mark.parametrize("path", ["/static/", "/static/../_dashboard.py", "/static/%2e%2e/_dashboard.py"])
def test_the_demo_serves_nothing_else(demo: str, path: str) -> None:
    with RawStream(f"{demo}{path}") as response:
        head = response.read_until(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))


def test_the_demo_streams_five_topics(demo: str) -> None:
    finished = run("tail", f"{demo}/events", "-n", "10", "--json", "-q")
    events = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [event["event"] for event in events] == ["cpu", "memory", "network", "processes", "server"] * 2
    epochs, sequences = zip(*(event["id"].split(".") for event in events), strict=True)
    assert len(set(epochs)) == 1
    assert [int(sequence) for sequence in sequences] == list(range(1, 11))  # the log's beginning
    assert events[4]["retry"] == 3000
    cpu, memory, network, processes, server = (json.loads(event["data"]) for event in events[5:])
    assert cpu["at"] <= server["at"]
    assert len(cpu["per_core"]) == cpu["cores"]
    assert 0 < memory["used"] <= memory["total"]
    assert network["sent_per_second"] >= 0
    assert {"pid", "name", "cpu", "memory"} == processes["top"][0].keys()
    assert server["open_streams"] >= 0


def test_the_demo_cuts_only_the_stream_that_is_asked_for(demo: str) -> None:
    with RawStream(f"{demo}/events?client=mine") as mine, RawStream(f"{demo}/events?client=other") as other:
        mine.read_until(b"event: server")
        other.read_until(b"event: server")
        assert http.post(f"{demo}/cut?client=nobody").status_code == 404
        assert http.get(f"{demo}/cut?client=mine").status_code == 405
        assert http.post(f"{demo}/cut?client=mine").status_code == 204
        assert not mine.rest().endswith(FINAL_CHUNK)
        assert http.post(f"{demo}/cut?client=mine").status_code == 404
        assert http.post(f"{demo}/cut?client=other").status_code == 204


def test_the_demo_reports_what_it_cannot_do(invoke: Callable[..., Result]) -> None:
    result = invoke("demo", "--bind", "192.0.2.1:0")
    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot listen on 192.0.2.1:0: ")
    assert invoke("demo", "--history", "-1").exit_code == 2


def test_a_drain_ends_the_demo() -> None:
    with trio_sse("demo", "--bind", "127.0.0.1:0") as program:
        url = program.stdout.expect(r"(http://\S+)/$")[1]
        with RawStream(f"{url}/events") as stream:
            stream.read_until(b"event: server")
            program.send(signal.SIGINT)
            assert b"retry: " in stream.rest()
            assert program.wait() == 0
            assert "Traceback" not in program.stderr.rest()


def test_a_signal_during_a_start_that_hangs_ends_it(tmp_path: Path) -> None:
    env = {"HANG": str(tmp_path)}
    with trio_sse(
        "serve", "tests.support.apps.hanging_app:server", "--bind", "127.0.0.1:0", env=env
    ) as program:
        program.stderr.expect("hanging")
        program.send(signal.SIGTERM)
        assert program.wait() == 0
