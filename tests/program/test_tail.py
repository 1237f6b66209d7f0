"""`trio-sse tail`, run as users run it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable

import pytest
from click.testing import Result

from ..support import http
from ..support.command_line import APP, run
from ..support.ports import free_port
from ..support.programs import read_up_to, serving, start, trio_sse
from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration


def test_tail_prints_events_with_their_fields(streams: str) -> None:
    finished = run("tail", f"{streams}/text", "-n", "2")
    assert finished.returncode == 0
    assert finished.stdout == (
        "id: a\nevent: lines\ndata: one\ndata: two\ndata: \ndata: four\n\n"
        "id: b\nevent: separators\ndata: a\u2028b\u0085c\n\n"
    )
    assert finished.stderr == f"# connected to {streams}/text\n"


def test_tail_prints_lines_of_json(streams: str) -> None:
    finished = run("tail", f"{streams}/text", "--json", "--count", "4", "--quiet")
    assert [json.loads(line) for line in finished.stdout.splitlines()] == [
        {"id": "a", "event": "lines", "data": "one\ntwo\n\nfour"},
        {"id": "b", "event": "separators", "data": "a\u2028b\u0085c"},
        {"id": "c", "data": ""},
        {"id": "d", "data": " : leading"},
    ]
    assert finished.stderr == ""


def test_tail_without_reconnect_stops_at_the_end(streams: str) -> None:
    finished = run("tail", f"{streams}/count/2", "--no-reconnect", "--last-event-id", "1")
    assert (finished.returncode, finished.stdout) == (0, 'id: 2\nevent: tick\ndata: {"n":2}\n\n')
    assert finished.stderr.endswith("# the stream has ended\n")


def test_tail_resumes_after_cuts_and_stops_on_204(streams: str) -> None:
    finished = run("tail", f"{streams}/portions/7", "--json")
    assert [json.loads(line)["id"] for line in finished.stdout.splitlines()] == list("1234567")
    assert finished.stderr.count("incomplete chunked read") == 3
    assert "resumed after 3" in finished.stderr
    assert "reconnecting in 0.5 s" in finished.stderr  # `retry` says 0, which is too often
    assert finished.stderr.endswith("Error: the server answered 204: no more events\n")
    assert finished.returncode == 1


def test_tail_resumes_after_an_id_beyond_ascii(streams: str) -> None:
    finished = run("tail", f"{streams}/unicode-id", "--json", "-n", "2")
    assert [json.loads(line)["data"] for line in finished.stdout.splitlines()] == ["first", "größe"]


def test_tail_reconnects_to_a_server_that_was_restarted() -> None:
    bind = f"127.0.0.1:{free_port()}"
    with (
        serving(APP, bind=bind) as (first, url),
        trio_sse("tail", f"{url}/live", "--json", "-n", "2") as tail,
    ):
        tail.stderr.expect("connected")
        http.post(f"{url}/live", content="before")
        before = json.loads(tail.stdout.expect(r"^{.*}$")[0])
        first.send(signal.SIGTERM)
        tail.stderr.expect(r"reconnecting in [12]\.\d s")
        assert first.wait() == 0
        with serving(APP, bind=bind):
            tail.stderr.expect(f"resumed after {before['id']}")
            reset = json.loads(tail.stdout.expect(r"^{.*}$")[0])
            assert tail.wait() == 0
    assert (before["event"], before["data"]) == ("said", "before")
    assert reset["event"] == "reset"


def test_tail_sends_headers(streams: str) -> None:
    assert "answered 401 Unauthorized" in run("tail", f"{streams}/private").stderr
    finished = run("tail", f"{streams}/private", "-H", "Authorization: Bearer key", "-n", "1", "-q")
    assert finished.stdout == "data: welcome\n\n"


@pytest.mark.parametrize(
    ("name", "given", "sent"),
    [
        ("x-tag", ["X-Tag: a", "x-tag: b"], [["a", "b"], ["a", "b"]]),
        ("accept", ["accept: text/event-stream;q=1"], [["text/event-stream;q=1"]] * 2),
        ("last-event-id", ["last-event-id: 2"], [["2"], ["3"]]),
    ],
)
def test_tail_sends_all_headers_except_an_older_id(
    streams: str, name: str, given: list[str], sent: list[list[str]]
) -> None:
    options = [part for header in given for part in ("-H", header)]
    finished = run("tail", f"{streams}/headers/{name}", *options, "-n", "2", "-q", "--json")
    assert [json.loads(json.loads(line)["data"]) for line in finished.stdout.splitlines()] == sent


@pytest.mark.parametrize(
    ("path", "options", "code", "message"),
    [
        ("/nowhere", [], 1, "the server answered 404 Not Found"),
        ("/over", [], 1, "the server answered 204: no more events"),
        ("/plain", [], 1, "the Content-Type is text/plain, not text/event-stream"),
        ("/live", ["-H", "no colon"], 2, "number 1 is not like 'NAME: VALUE'"),
        ("/live", ["-H", "a b: c"], 2, "with a name of letters, digits and hyphens"),
        ("/live", ["--count", "0"], 2, "'--count'"),
    ],
)
def test_tail_reports_why_a_stream_cannot_be_followed(
    invoke: Callable[..., Result], streams: str, path: str, options: list[str], code: int, message: str
) -> None:
    result = invoke("tail", f"{streams}{path}", *options)
    assert result.exit_code == code
    assert isinstance(result.exception, SystemExit)
    assert message in result.output


@pytest.mark.parametrize("url", ["127.0.0.1:8000/clock", "", "http://[::1/clock", "ftp://127.0.0.1/clock"])
def test_tail_refuses_a_malformed_url(invoke: Callable[..., Result], url: str) -> None:
    result = invoke("tail", url)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_tail_without_reconnect_fails_if_nobody_answers(invoke: Callable[..., Result]) -> None:
    result = invoke("tail", "http://127.0.0.1:1/", "--no-reconnect")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ConnectError: ")


def test_tail_tries_again_when_nobody_answers() -> None:
    with trio_sse("tail", "http://127.0.0.1:1/") as tail:
        match = tail.stderr.expect(r"^# ConnectError: .*; reconnecting in ([\d.]+) s$")
        assert float(match[1]) >= 3


def test_tail_ends_when_its_output_is_a_broken_pipe(streams: str) -> None:
    command = [sys.executable, "-m", "trio_sse", "tail", f"{streams}/ticks"]
    process = start(command)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            read_up_to(process.stdout, r"\Adata: tick$")
            process.stdout.close()
            assert process.wait(SECONDS) == 0
            assert process.stderr.read() == f"# connected to {streams}/ticks\n"
        finally:
            process.kill()
            process.wait(SECONDS)


def test_tail_can_be_interrupted(streams: str) -> None:
    with trio_sse("tail", f"{streams}/live") as tail:
        tail.stderr.expect("connected")
        tail.send(signal.SIGINT)
        assert tail.wait() == 130
        assert "Traceback" not in tail.stderr.rest()
