"""`trio-sse load`, against our servers and against scripted ones."""

from __future__ import annotations

import io
import json
import os
import queue
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from trio_sse import EventDecoder
from trio_sse._client import reconnecting
from trio_sse._client.reconnecting import ReconnectPolicy
from trio_sse._tools.load import client, report
from trio_sse._tools.load import run as load_run
from trio_sse._tools.load.distribution import Distribution
from trio_sse._tools.load.report import LiveTable, write_report
from trio_sse._tools.load.response import LoadError, LoadStream
from trio_sse._tools.load.run import Load, LoadOptions
from trio_sse._tools.load.target import LoadTarget
from trio_sse._tools.load.totals import Totals
from trio_sse.cli import main

from ..support.cases import each_case
from ..support.programs import running, trio_sse
from ..support.strategies import cut, events
from ..support.waiting import SECONDS, until

APP = "tests.support.apps.streams:server"
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


# One stream


@pytest.fixture(autouse=True)
def reconnects_are_not_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients reconnect as soon as a test's server says."""
    monkeypatch.setattr(reconnecting, "FLOOR_SECONDS", 0.0)


@given(sent=st.lists(events, max_size=6), seed=st.integers(0, 2**32), is_chunked=st.booleans())
def test_events_are_found_however_they_are_split_and_framed(sent: list, seed: int, is_chunked: bool) -> None:  # type: ignore[type-arg]
    chance = random.Random(seed)
    body = b"".join(event.encode() for event in sent)
    wire = HEAD if is_chunked else HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"")
    pieces = cut(body, sorted(chance.randrange(len(body) + 1) for _ in range(4)))
    wire += b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p) if is_chunked else body
    wire += b"0\r\n\r\n" if is_chunked else b""

    stream, found = LoadStream(""), []
    for piece in cut(wire, sorted(chance.randrange(len(wire) + 1) for _ in range(10))):
        found += stream.feed(piece)
    decoder = EventDecoder()
    assert found == decoder.feed(body)
    assert (stream.has_head, stream.is_ended) == (True, is_chunked)
    assert stream.decoder.last_event_id == decoder.last_event_id


@each_case(
    ("response", "text", "is_final"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found", True),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n", "503 Busy", False),
        (b"HTTP/1.1 429\r\n\r\n", "429", False),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "101 Switching Protocols", True),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "204 No Content", True),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "the Content-Type is text/html", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", "the Content-Type is nothing", True),
        (b"HTTP/1.1 301 Moved\r\nLocation: /there\r\n\r\n", "301 Moved: use /there", True),
        (
            HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n",
            "the body is compressed (gzip), although not requested",
            True,
        ),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the response is not HTTP/1.1", True),
        (b"x" * 70_000, "the response's head is too long", True),
        (HEAD + b"xyz\r\n", "the chunked framing is broken", False),
        (HEAD + b"1" * 2000, "the chunked framing is broken", False),
        (HEAD + b"-6\r\nabcdefgh\r\n", "the chunked framing is broken", False),
        (HEAD + b"500000\r\n" + b"x" * 0x500000, "an event of the stream is larger than", True),
    ],
)
def test_what_is_not_an_event_stream_is_an_error(response: bytes, text: str, is_final: bool) -> None:
    with pytest.raises(LoadError, match=f"^{re.escape(text)}") as failed:
        LoadStream("").feed(response)
    assert failed.value.is_final == is_final
    assert failed.value.retry_after == (7 if text == "503 Busy" else 0)


@given(cuts=st.lists(st.integers(0, 200), max_size=4))
def test_interim_responses_are_skipped(cuts: list[int]) -> None:
    wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + event(
        "data: a\n\n"
    )
    stream = LoadStream("")
    pieces = cut(wire, sorted(min(at, len(wire)) for at in cuts))
    assert [found.data for piece in pieces for found in stream.feed(piece)] == ["a"]


def test_content_length_ends_a_body() -> None:
    stream = LoadStream("")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 18\r\n\r\n"
    assert [event.data for event in stream.feed(head + b"data: a\n\nda")] == ["a"]
    assert not stream.is_ended
    assert [event.data for event in stream.feed(b"ta: b\n\ndata: beyond\n\n")] == ["b"]
    assert stream.is_ended


@pytest.mark.parametrize("framing", [b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 18\r\n"])
def test_the_end_of_the_connection_ends_only_a_body_without_framing(framing: bytes) -> None:
    stream = LoadStream("")
    with pytest.raises(LoadError, match=r"^the server cut the stream$") as failed:
        stream.end()  # before the head
    assert not failed.value.is_final
    stream.feed(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
    if not framing:
        stream.feed(b"data: a\n\n")
        stream.end()
        return
    with pytest.raises(LoadError, match=r"^the server cut the stream$"):
        stream.end()


# One request


def test_headers_of_the_user_replace_our_own() -> None:
    headers = [("host", "other"), ("Cookie", "a=1"), ("Cookie", "b=\u00e9"), ("ACCEPT", "*/*")]
    target = LoadTarget("https://user@BÜCHER.example/ä b?q=%20&r=ä#part", headers)
    assert (target.host, target.port, target.is_secure) == ("xn--bcher-kva.example", 443, True)
    assert target.request("7").decode().split("\r\n") == [
        "GET /%C3%A4%20b?q=%20&r=%C3%A4 HTTP/1.1",
        "Cache-Control: no-store",
        "User-Agent: trio-sse load",
        "host: other",
        "Cookie: a=1",
        "Cookie: b=\u00e9",
        "ACCEPT: */*",
        "Last-Event-ID: 7",
        "",
        "",
    ]


def test_a_request_has_the_headers_of_an_event_source() -> None:
    assert LoadTarget("http://[::1]:8000", []).request("").decode().split("\r\n") == [
        "GET / HTTP/1.1",
        "Host: [::1]:8000",
        "Accept: text/event-stream",
        "Cache-Control: no-store",
        "User-Agent: trio-sse load",
        "",
        "",
    ]


def test_a_last_event_id_of_the_user_is_sent_each_time() -> None:
    request = LoadTarget("http://h/", [("Last-Event-ID", "1")]).request("7")
    assert b"Last-Event-ID: 1\r\n" in request
    assert request.lower().count(b"last-event-id") == 1


@each_case(
    "url",
    [
        "ftp://x/",
        "http://",
        "//x/",
        "x:80",
        "",
        "http://:80/",
        "http://a..b/",
        "http://.a/",
        "http://[::1",
        "http://h:0/",
        "http://h:99999/",
        "http://h:-1/",
        "http://h:x/",
        f"http://{'a' * 64}/",
        "http://h\udcff/",
        "http://h/\udcff",
        "http://h/?\udcff",
    ],
)
def test_a_malformed_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the URL must be like http://host:port/path; "):
        LoadTarget(url, [])


# Measured times


@given(values=st.lists(st.floats(-1e13, 1e13), max_size=50))
def test_percentiles_are_within_half_a_percent(values: list[float]) -> None:
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    assert distribution.count == len(values)
    ordered = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99} if values else {}
    exact = {name: ordered[int(share * len(values))] for name, share in shares.items()}
    found = distribution.percentiles()
    assert found.pop("max", None) == (round(ordered[-1], 3) if values else None)
    assert found == pytest.approx(exact, rel=0.005, abs=0.001)


def test_the_memory_of_a_distribution_does_not_grow_with_its_values() -> None:
    distribution = Distribution()
    chance = random.Random(1)
    for _ in range(100_000):
        distribution.add(10 ** chance.uniform(-3, 5))
    assert len(distribution._counts) < 128 * 27


# The program


def test_statistics_are_printed_and_written_as_json(streams: str, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    with trio_sse("load", f"{streams}/ticks", "-c", "20", "-d", "4", "--json", file) as load:
        assert load.wait() == 0
        assert re.search(r"^streams +20 at once, 20 opened, of 20$", load.stdout.rest(), re.MULTILINE)
        assert load.stderr.rest() == ""
    report = json.loads(file.read_text())
    assert report["most_connected"] == report["opened"] == 20
    assert report["failures"] == {}
    assert report["events"] > 0
    assert set(report["milliseconds_to_head"]) == {"p50", "p90", "p99", "max"}


def test_streams_that_end_reconnect(streams: str) -> None:
    with trio_sse("load", f"{streams}/short", "-c", "2", "-d", "2") as load:
        assert load.wait() == 0
        text = load.stdout.rest()
    assert re.search(r"^reconnects +[1-9]", text, re.MULTILINE), text
    assert "failure" not in text


@pytest.mark.integration
def test_an_interrupted_run_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with (
        answering(event("retry: 50\nid: 7\ndata: x\n\n"), requests=requests) as url,
        trio_sse("load", url, "-c", "1", "-d", "60", "--json", file) as load,
    ):
        while b"Last-Event-ID: 7" not in requests.get(timeout=SECONDS):
            pass
        load.send(signal.SIGINT)
        assert load.wait() == 0
        assert load.stderr.rest() == ""
    report = json.loads(file.read_text())
    assert report["events"] >= 1
    assert report["seconds"] < 60


def test_a_status_is_counted_as_a_failure(streams: str) -> None:
    with trio_sse("load", f"{streams}/nowhere", "-c", "3", "-d", "2") as load:
        assert load.wait() == 1
        assert "3 times: 404 Not Found" in load.stdout.rest()


@pytest.mark.integration
def test_a_file_that_cannot_be_written_is_an_error_before_the_run(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "load.json"
    with trio_sse("load", "http://127.0.0.1:1/", "-d", "60", "--json", file) as load:
        assert load.wait() == 2
        assert "load.json: No such file or directory" in load.stderr.rest()


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-"])
def test_json_is_written_with_closed_standard_streams(streams: str, tmp_path: Path, redirection: str) -> None:
    file = tmp_path / "load.json"
    command = (
        f"exec {sys.executable} -m trio_sse load {streams}/ticks -c 1 -d 1.1 --json {file} {redirection}"
    )
    with running(["sh", "-c", command]) as load:
        assert load.wait() == 0
        assert load.stderr.rest() == ""
    assert json.loads(file.read_text())["opened"] == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_json_is_written_when_nobody_reads_the_output(
    streams: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    file = tmp_path / "load.json"
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(report, "_LINES_APART", 1)
    with open(writer, "w") as unread:
        monkeypatch.setattr(sys, stream, unread)
        arguments = ["load", f"{streams}/ticks", "-c", "1", "-d", "1.5", "--json", str(file)]
        main.main(arguments, standalone_mode=False)
    assert json.loads(file.read_text())["opened"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no file that is always full")
def test_json_that_cannot_be_written_is_an_error_after_the_report(streams: str) -> None:
    with trio_sse("load", f"{streams}/ticks", "-c", "1", "-d", "2", "--json", "/dev/full") as load:
        assert load.wait() == 1
        assert load.stderr.rest() == "Error: /dev/full: No space left on device\n"
        assert "1 at once" in load.stdout.rest()


@pytest.mark.integration
def test_a_refused_connection_is_counted_as_a_failure() -> None:
    with trio_sse("load", "http://127.0.0.1:1/", "-c", "2", "-d", "2") as load:
        assert load.wait() == 1
        assert re.search("2 times: .*Connection refused", load.stdout.rest())


@each_case(
    ("arguments", "text"),
    [
        (["ftp://x/"], "the URL must be like http://host:port/path; a port is"),
        (["http://a..b/"], "the URL must be like http://host:port/path; a port is"),
        (["http://127.0.0.1:1/", "-c", "0"], "0 is not in the range x>=1"),
        (["http://127.0.0.1:1/", "-d", "0"], "0.0 is not in the range x>0"),
        (["http://127.0.0.1:1/", "-d", "nan"], "nan is not a finite number"),
        (["http://127.0.0.1:1/", "-d", "inf"], "inf is not a finite number"),
        (["http://127.0.0.1:1/", "--rate", "nan"], "nan is not a finite number"),
        (["http://127.0.0.1:1/", "--rate", "-1"], "-1.0 is not in the range x>0"),
        (["http://127.0.0.1:1/", "-c", "nan"], "'nan' is not a valid integer"),
        (["http://127.0.0.1:1/", "--source", "a..b"], "--source must be an address like 127.0.0.2 or ::1"),
        (["http://127.0.0.1:1/", "-H", "no colon"], "number 1 is not like 'NAME: VALUE'"),
        (["http://127.0.0.1:1/", "-H", "a b: c"], "with a name of letters, digits and hyphens"),
        (["http://127.0.0.1:1/", "-H", ": c"], "with a name of letters, digits and hyphens"),
        (["http://127.0.0.1:1/", "-H", "X: a\r\nY: b"], "and no control characters"),
        (["http://127.0.0.1:1/", "-H", "X: a\n"], "and no control characters"),
        (["http://127.0.0.1:1/", "-H", "X: \udcff"], "and no control characters"),
        (["http://127.0.0.1:1/", "-c", "100000000"], "100000000 connections need 100000000 file descriptors"),
        (["http://no-such-host.invalid/", "-d", "1"], "no-such-host.invalid"),
    ],
)
def test_wrong_usage_is_an_error_in_one_line(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, ["load", *arguments])
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)  # no other one: it would be a traceback
    assert text in result.output


# In this process, against a scripted server


@contextmanager
def answering(*answers: bytes, requests: queue.SimpleQueue[bytes] | None = None) -> Iterator[str]:
    """Answer each connection with the next of `answers`, and close it; repeat the last one."""
    listening = socket.create_server(("127.0.0.1", 0))
    requests = requests or queue.SimpleQueue()

    def serve() -> None:
        for number in range(1000):
            try:
                connected, _ = listening.accept()
            except OSError:
                return
            with connected:
                requests.put(connected.recv(4096))
                connected.sendall(answers[min(number, len(answers) - 1)])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/s?x=1"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def event(text: str) -> bytes:
    return HEAD + b"%x\r\n%b\r\n" % (len(text), text.encode())


def run(url: str, enough: Callable[[Totals], object], **options: object) -> Load:
    """Load by one stream until that is enough."""
    made = Load(LoadOptions(url=url, connections=1, duration=SECONDS, **options))  # type: ignore[arg-type]

    async def run_until_enough() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run, lambda: None)
            await until(lambda: enough(made.totals))
            nursery.cancel_scope.cancel()

    trio.run(run_until_enough)
    return made


def test_a_stream_without_framing_ends_without_a_failure() -> None:
    with answering(HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"") + b"retry: 50\ndata: x\n\n") as url:
        totals = run(url, lambda totals: totals.events >= 2).totals
    assert not totals.failures


def test_a_reconnect_is_counted_when_its_stream_opens() -> None:
    busy = b"HTTP/1.1 503 Busy\r\n\r\n"
    with answering(event("retry: 20\ndata: x\n\n"), busy, busy, event("retry: 100000\ndata: y\n\n")) as url:
        totals = run(url, lambda totals: totals.events == 2).totals
    assert (totals.opened, totals.failures["503 Busy"], totals.reconnects) == (2, 2, 1)


def test_a_server_that_never_answers_has_no_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ReconnectPolicy", partial(ReconnectPolicy, 0.02))
    with answering(b"HTTP/1.1 503 Busy\r\n\r\n") as url:
        totals = run(url, lambda totals: totals.failures["503 Busy"] >= 2).totals
    assert totals.reconnects == 0


@pytest.mark.parametrize("ends_by", ["time", "interrupt"])
def test_the_time_to_close_streams_is_not_counted(
    streams: str, monkeypatch: pytest.MonkeyPatch, ends_by: str
) -> None:
    passed = 0.0

    async def close_slowly(stream: trio.abc.Stream) -> None:
        nonlocal passed
        passed += 1000
        await closing(stream)

    def clock() -> float:
        return passed

    closing = trio.aclose_forcefully
    monkeypatch.setattr(trio, "aclose_forcefully", close_slowly)
    monkeypatch.setattr(load_run, "time", SimpleNamespace(perf_counter=clock, process_time=clock))
    made = Load(
        LoadOptions(url=f"{streams}/ticks", connections=1, duration=SECONDS if ends_by == "interrupt" else 1)
    )

    async def interrupt() -> None:
        await until(lambda: made.totals.events)
        signal.raise_signal(signal.SIGINT)

    async def run_to_the_end() -> None:
        async with trio.open_nursery() as nursery:
            if ends_by == "interrupt":
                nursery.start_soon(interrupt)
            await made.run(lambda: None)

    trio.run(run_to_the_end)
    assert passed == 1000 * made.totals.opened
    assert (made.seconds, made.cpu_seconds) == (0, 0)


def test_a_cut_stream_resumes_after_the_retry_time() -> None:
    with answering(event("retry: 50\nid: 7\ndata: x\n\n"), event("data: y\n\n")) as url:
        totals = run(url, lambda totals: totals.events >= 3).totals
    assert totals.reconnects >= 2
    assert totals.failures["the server cut the stream"] >= 2


@pytest.mark.parametrize(("factor", "field"), [(1, None), (1000, None), (1, "mine")])
def test_latency_is_measured_from_an_events_timestamp(factor: float, field: str | None) -> None:
    name = field or "server_time"
    data = f'data: {{"{name}": {(time.time() - 2) * factor}}}\n\n'
    other = "data: {\n\ndata: {}\n\ndata: []\n\n" + f'data: {{"{name}": true}}\n\n'
    with answering(event("retry: 100000\n" + data + other)) as url:
        made = run(url, lambda totals: totals.events == 5, timestamp_field=field)
    assert made.totals.latencies.count == 1
    assert 2000 <= made.totals.latencies.percentiles()["max"] < 2000 + SECONDS * 1000
    out = io.StringIO()
    write_report(made, out)
    assert re.search(r"^latency +p50 [\d,]+\.\d ms", out.getvalue(), re.MULTILINE)


@each_case("number", ["21.5", "NaN", "-1", "1e400", "1" + "0" * 400, "[" * 100_000])
def test_a_number_that_is_not_a_time_gives_no_latency(number: str) -> None:
    with answering(event(f'retry: 100000\ndata: {{"t": {number}}}\n\n')) as url:
        made = run(url, lambda totals: totals.events == 1)
    assert made.totals.latencies.count == 0


def test_the_next_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(host: str, port: int, **options: object) -> list[tuple[object, ...]]:
        assert host == "name"
        rest = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(socket.AF_INET6, *rest, ("::1", port, 0, 0)), (socket.AF_INET, *rest, ("127.0.0.1", port))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", both)
    with answering(b"", event("retry: 100000\ndata: x\n\n")) as url:  # the first connection is the probe
        run(url.replace("127.0.0.1", "name"), lambda totals: totals.events == 1)


def test_the_line_that_changes_is_for_terminals() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    made = Load(LoadOptions(url="http://127.0.0.1:1/", connections=1, duration=1))
    for out, lines in ((Terminal(), 10), (io.StringIO(), 2)):
        table = LiveTable(made, out)
        for _ in range(10):
            table.show()
        table.finish()
        assert out.getvalue().count("0 connected") == lines
    made.seconds, made.cpu_seconds = 10.0, 9.5
    report = io.StringIO()
    write_report(made, report)
    assert "and may be the bottleneck" in report.getvalue()
