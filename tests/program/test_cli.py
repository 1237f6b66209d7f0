"""The program `trio-sse`, run as users run it: as a process, reached through sockets."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from trio_sse.cli import main

from ..support.certificates import Certificate
from ..support.programs import ROOT, RawStream, environment, running, serving, trio_sse

APP = "tests.support.apps.streams:server"
NAMES = ["demo", "doctor", "load", "serve", "tail"]
FINAL_CHUNK = b"0\r\n\r\n"


@pytest.fixture(scope="module")
def streams() -> Iterator[str]:
    """Give the URL of a server that all tests of this module may use."""
    with serving(APP) as (_, url):
        yield url


def run(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [sys.executable, "-m", "trio_sse", *arguments],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=30,
    )


@pytest.fixture
def invoke(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Result]]:
    """Run the program within this process, where it fails before it does anything that would last."""
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path_factory.getbasetemp())):
            del sys.modules[name]  # the test's own


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# The program itself


def test_it_tells_its_version_and_what_it_can() -> None:
    assert run("--version").stdout == f"trio-sse, version {version('trio-sse')}\n"
    text = run("--help").stdout
    assert re.findall(r"^  (serve|demo|tail|load|doctor) ", text, re.MULTILINE) == NAMES


@pytest.mark.parametrize("command", NAMES)
def test_each_command_has_help(invoke: Callable[..., Result], command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f" {command} [OPTIONS]" in result.output


@pytest.mark.parametrize(
    ("missing", "command"),
    [("click", ["serve", APP]), ("psutil", ["demo"]), ("httpx", ["tail", "http://127.0.0.1:1/"])],
)
def test_without_its_extra_it_says_how_to_get_it(missing: str, command: list[str]) -> None:
    block = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {command!r}"
    code = f"{block}; import runpy; runpy.run_module('trio_sse', run_name='__main__')"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=30
    )
    assert finished.returncode == 1
    assert "pip install 'trio-sse[cli]'" in finished.stderr
    assert "Traceback" not in finished.stderr


# serve


def test_it_serves(streams: str) -> None:
    response = httpx.get(f"{streams}/count/2")
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.text == 'id: 1\nevent: tick\ndata: {"n":1}\n\nid: 2\nevent: tick\ndata: {"n":2}\n\n'


def test_it_serves_a_module_of_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class site:\n    from trio_sse import Server\n    server = Server()\n")
    with trio_sse("serve", "mine:site.server", "--bind", "127.0.0.1:0", cwd=tmp_path) as program:
        url = program.stdout.expect(r"Serving on (\S+)$")[1]
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}


def test_it_listens_on_several_addresses() -> None:
    others = ["--bind", "localhost:0", *(("--bind", "[::1]:0") if has_ipv6() else ())]
    with serving(APP, *others) as (program, first):
        urls = [first, program.stdout.expect(r"Serving on (\S+)$")[1]]
        if has_ipv6():
            urls.append(program.stdout.expect(r"Serving on (http://\[::1\]:\d+)$")[1])
        assert len(set(urls)) == len(urls)
        for url in urls:
            assert httpx.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize("how", ["options", "environment"])
def test_keepalive_and_longest_life_can_be_set(how: str) -> None:
    seconds = {"keepalive": "0.02", "max-duration": "0.3"}
    options = [part for name, value in seconds.items() for part in (f"--{name}", value)]
    env = {f"TRIO_SSE_{name.upper().replace('-', '_')}": value for name, value in seconds.items()}
    with (
        serving(APP, *(options if how == "options" else ()), env=None if how == "options" else env) as (
            _,
            url,
        ),
        RawStream(f"{url}/live") as stream,
    ):
        received = stream.rest()
    assert received.count(b"2\r\n:\n\r\n") > 2
    assert not received.endswith(FINAL_CHUNK)


def test_all_can_be_set_in_the_environment() -> None:
    env = {
        "TRIO_SSE_SERVER": APP,
        "TRIO_SSE_BIND": "127.0.0.1:0 localhost:0",
        "TRIO_SSE_LOG_LEVEL": "WARNING",
    }
    with trio_sse("serve", env=env) as program:
        for _ in range(2):
            url = program.stdout.expect(r"Serving on (\S+)$")[1]
            assert httpx.get(f"{url}/count/1").status_code == 200
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert program.stderr.rest() == ""


def test_it_logs_each_stream_but_never_the_query() -> None:
    with serving(APP) as (program, url):
        httpx.get(f"{url}/count/1?key=secret")
        program.stderr.expect(r" INFO trio_sse\S* open id=1 .* path=/count/1$")
        program.stderr.expect(r"close id=1 .* path=/count/1 reason=finished .* events=1 ")
        assert "secret" not in program.stderr.text


def test_it_serves_under_tls(certificate: Certificate) -> None:
    with serving(APP, "--certfile", certificate.chain, "--keyfile", certificate.key) as (_, url):
        assert url.startswith("https://127.0.0.1:")
        assert httpx.get(f"{url}/count/1", verify=certificate.context).text.endswith('data: {"n":1}\n\n')
        refused = run("tail", f"{url}/count/1", "--no-reconnect")
        assert refused.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        assert run("tail", f"{url}/count/1", "--insecure", "-n", "1").returncode == 0


def test_the_key_may_be_in_the_file_of_its_certificate(certificate: Certificate) -> None:
    with serving(APP, "--certfile", certificate.both) as (_, url):
        assert httpx.get(f"{url}/health", verify=certificate.context).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: signal.Signals) -> None:
    with serving(APP) as (program, url), RawStream(f"{url}/live") as stream, httpx.Client() as idle:
        stream.read_until(b"\r\n\r\n")
        idle.get(f"{url}/health")  # its connection stays open
        program.send(number)
        received = stream.rest()
        assert re.search(rb"\r\nretry: \d+\n\r\n$", received)
        assert not received.endswith(FINAL_CHUNK)
        assert program.wait(10) == 0
        program.stderr.expect(f"{number.name}: draining")
        program.stderr.expect("reason=server_shutdown")
        assert "Traceback" not in program.stderr.rest()


def test_a_stuck_reader_does_not_hold_up_a_drain() -> None:
    with serving(APP) as (program, url), RawStream(f"{url}/flood", receive_buffer=4096):
        program.stderr.expect("open id=1 ")  # and its first event is more than can be on the way
        program.send(signal.SIGTERM)
        assert program.wait(10) == 0
        assert "reason=server_shutdown" in program.stderr.rest()


def test_a_second_interrupt_stops_at_once() -> None:
    with serving(APP, "--log-level", "debug") as (program, url), RawStream(f"{url}/slow"):
        httpx.get(f"{url}/health")  # the request before it has been taken by then
        program.send(signal.SIGTERM)
        program.stderr.expect("draining")
        program.send(signal.SIGINT)
        assert program.wait(10) == 0
        assert "stopping at once" in program.stderr.rest()
        assert "Traceback" not in program.stderr.text


MODULES = {
    "empty.py": "",
    "other.py": "server = 3\n",
    "needy.py": "import not_to_be_found\n",
    "broken.py": "def f():\n    return 1 / 0\n\nf()\n",
    "wrong.py": "def :\n",
    "fine.py": "from trio_sse import Server\nserver = Server()\n",
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fine"], 1, "'fine' is not like module:server"),
        ([".fine:server"], 1, "'.fine:server' is not like module:server"),
        ([], 2, "Missing argument 'MODULE:NAME'"),
        (["nowhere:server"], 1, "there is no module 'nowhere'"),
        (["nowhere.at.all:server"], 1, "there is no module 'nowhere.at.all'"),
        (["empty:server"], 1, "'empty:server' is nothing, neither a trio_sse.Server nor an ASGI app"),
        (["other:server"], 1, "'other:server' is of type int, neither a trio_sse.Server nor an ASGI app"),
        (["needy:server"], 1, "'needy' fails: ModuleNotFoundError: No module named 'not_to_be_found'"),
        (["broken:server"], 1, "broken.py, line 2;"),
        (["wrong:server"], 1, "(wrong.py, line 1)"),
        (["fine:server", "--bind", "x:y"], 1, "'x:y' is not like 127.0.0.1:8000"),
        (["fine:server", "--bind", "127.0.0.1:65536"], 1, "is not like"),
        (["fine:server", "--bind", "::1:8000"], 1, "is not like"),
        (["fine:server", "--bind", ""], 1, "'' is not like"),
        (["fine:server", "--bind", "192.0.2.1:0"], 1, "can't listen on 192.0.2.1:0: "),
        (["fine:server", "--bind", "a..b:0"], 1, "can't listen on a..b:0: "),
        (["fine:server", "--keepalive", "0"], 2, "'--keepalive'"),
        (["fine:server", "--max-duration", "nan"], 1, "max_duration must be more than 0 seconds"),
        (["fine:server", "--certfile", "nowhere.pem"], 2, "'nowhere.pem' does not exist"),
        (["fine:server", "--certfile", "fine.py"], 1, "can't use the certificate fine.py: "),
        (["fine:server", "--keyfile", "fine.py"], 1, "give --certfile, too"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(
    invoke: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    modules: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(modules)
    result = invoke("serve", *arguments)
    assert result.exit_code == code
    assert isinstance(result.exception, SystemExit)  # no other one: it would be a traceback
    assert message in result.output
    assert "Error: " in result.output


def test_a_port_that_is_taken_is_told_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        finished = run("serve", APP, "--bind", "127.0.0.1:0", "--bind", address)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"Error: can't listen on {address}: ")
    assert finished.stderr.count("\n") == 1


def test_why_a_module_fails_can_be_looked_into(modules: Path) -> None:
    finished = run("serve", "broken:server", "--log-level", "debug", cwd=modules)
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "line 4, in <module>" in finished.stderr


def test_serving_survives_that_nobody_reads_its_addresses() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "trio_sse", "serve", APP, "--bind", f"127.0.0.1:{port}"]
    reader, writer = socket.socketpair()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=writer.fileno(), stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        writer.close()
        reader.close()
        assert process.stderr is not None
        for line in process.stderr:
            if "serving on" in line:
                break
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_serving_needs_no_log_at_all() -> None:
    command = f"exec {sys.executable} -m trio_sse serve {APP} --bind 127.0.0.1:0 2>&-"
    with running(["sh", "-c", command]) as program:
        url = program.stdout.expect(r"Serving on (\S+)$")[1]
        assert httpx.get(f"{url}/count/1").text.endswith('{"n":1}\n\n')
        program.send(signal.SIGTERM)
        assert program.wait(10) == 0


# tail


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


def test_tail_stops_at_the_end_if_it_is_to(streams: str) -> None:
    finished = run("tail", f"{streams}/count/2", "--no-reconnect", "--last-event-id", "1")
    assert (finished.returncode, finished.stdout) == (0, 'id: 2\nevent: tick\ndata: {"n":2}\n\n')
    assert finished.stderr.endswith("# the stream has ended\n")


def test_tail_resumes_over_cuts_and_stops_when_all_is_said(streams: str) -> None:
    finished = run("tail", f"{streams}/portions/7", "--json")
    assert [json.loads(line)["id"] for line in finished.stdout.splitlines()] == list("1234567")
    assert finished.stderr.count("incomplete chunked read") == 3
    assert "resumed after 3" in finished.stderr
    assert "reconnecting in 0.0 s" in finished.stderr  # as `retry` says
    assert finished.stderr.endswith("Error: the server says that there is nothing more to come (204)\n")
    assert finished.returncode == 1


def test_tail_resumes_after_an_id_beyond_ascii(streams: str) -> None:
    finished = run("tail", f"{streams}/unicode-id", "--json", "-n", "2")
    assert [json.loads(line)["data"] for line in finished.stdout.splitlines()] == ["first", "größe"]


def test_tail_comes_back_to_a_server_that_was_restarted() -> None:
    with serving(APP) as (first, url):
        port = url.rpartition(":")[2]
        with trio_sse("tail", f"{url}/live", "--json", "-n", "2") as tail:
            tail.stderr.expect("connected")
            httpx.post(f"{url}/live", content="before")
            before = json.loads(tail.stdout.expect(r"^{.*}$")[0])
            first.send(signal.SIGTERM)
            tail.stderr.expect(r"reconnecting in [12]\.\d s")
            assert first.wait() == 0
            with serving(APP, bind=f"127.0.0.1:{port}"):
                tail.stderr.expect(f"resumed after {before['id']}")
                reset = json.loads(tail.stdout.expect(r"^{.*}$")[0])
                assert tail.wait() == 0
    assert (before["event"], before["data"]) == ("said", "before")
    assert reset["event"] == "reset"


def test_tail_sends_headers(streams: str) -> None:
    assert "answers 401 Unauthorized" in run("tail", f"{streams}/private").stderr
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
def test_tail_sends_all_headers_but_an_id_that_is_older(
    streams: str, name: str, given: list[str], sent: list[list[str]]
) -> None:
    options = [part for header in given for part in ("-H", header)]
    finished = run("tail", f"{streams}/headers/{name}", *options, "-n", "2", "-q", "--json")
    assert [json.loads(json.loads(line)["data"]) for line in finished.stdout.splitlines()] == sent


@pytest.mark.parametrize(
    ("path", "options", "code", "message"),
    [
        ("/nowhere", [], 1, "the server answers 404 Not Found"),
        ("/over", [], 1, "nothing more to come (204)"),
        ("/plain", [], 1, "its Content-Type is text/plain, not text/event-stream"),
        ("/live", ["-H", "no colon"], 2, "'no colon' is not like 'Name: value'"),
        ("/live", ["-H", "a b: c"], 2, "with a name of letters, digits and hyphens"),
        ("/live", ["--count", "0"], 2, "'--count'"),
    ],
)
def test_tail_tells_why_a_stream_cannot_be_followed(
    invoke: Callable[..., Result], streams: str, path: str, options: list[str], code: int, message: str
) -> None:
    result = invoke("tail", f"{streams}{path}", *options)
    assert result.exit_code == code
    assert isinstance(result.exception, SystemExit)
    assert message in result.output


@pytest.mark.parametrize("url", ["127.0.0.1:8000/clock", "", "http://[::1/clock", "ftp://127.0.0.1/clock"])
def test_tail_refuses_what_is_no_url(invoke: Callable[..., Result], url: str) -> None:
    result = invoke("tail", url)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_tail_fails_if_nobody_answers_and_it_is_not_to_try_again(invoke: Callable[..., Result]) -> None:
    result = invoke("tail", "http://127.0.0.1:1/", "--no-reconnect")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ConnectError: ")


def test_tail_tries_again_when_nobody_answers() -> None:
    with trio_sse("tail", "http://127.0.0.1:1/") as tail:
        tail.stderr.expect("^# ConnectError: ")
        assert float(tail.stderr.expect(r"^# reconnecting in ([\d.]+) s$")[1]) >= 3


def test_tail_ends_when_nobody_reads_what_it_prints(streams: str) -> None:
    command = [sys.executable, "-m", "trio_sse", "tail", f"{streams}/ticks"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "data: tick\n"
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == f"# connected to {streams}/ticks\n"
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_tail_can_be_interrupted(streams: str) -> None:
    with trio_sse("tail", f"{streams}/live") as tail:
        tail.stderr.expect("connected")
        tail.send(signal.SIGINT)
        assert tail.wait(10) == 130
        assert "Traceback" not in tail.stderr.rest()


# demo


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Give the URL of a dashboard."""
    with trio_sse("demo", "--bind", "127.0.0.1:0", "--log-level", "warning") as program:
        url = program.stdout.expect(r"^Dashboard of this machine: +(http://\S+)/$")[1]
        command = program.stdout.expect(r"^The same in a terminal: +(.*)$")[1]
        assert command == f"curl -N {url}/events"
        yield url
        program.send(signal.SIGTERM)
        assert program.wait(10) == 0
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
def test_the_demo_gives_its_files(demo: str, path: str, content_type: str) -> None:
    response = httpx.get(f"{demo}{path}")
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == content_type
    name = "index.html" if path == "/" else path.removeprefix("/static/")
    assert response.content == (ROOT / "trio_sse" / "demo" / "static" / name).read_bytes()


@pytest.mark.parametrize("path", ["/static/", "/static/../_dashboard.py", "/static/%2e%2e/_dashboard.py"])
def test_the_demo_gives_nothing_else(demo: str, path: str) -> None:
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
        assert httpx.post(f"{demo}/cut?client=nobody").status_code == 404
        assert httpx.get(f"{demo}/cut?client=mine").status_code == 405
        assert httpx.post(f"{demo}/cut?client=mine").status_code == 204
        assert not mine.rest().endswith(FINAL_CHUNK)
        assert httpx.post(f"{demo}/cut?client=mine").status_code == 404
        assert httpx.post(f"{demo}/cut?client=other").status_code == 204


def test_the_demo_tells_what_it_cannot_do(invoke: Callable[..., Result]) -> None:
    result = invoke("demo", "--bind", "192.0.2.1:0")
    assert result.exit_code == 1
    assert result.output.startswith("Error: can't listen on 192.0.2.1:0: ")
    assert invoke("demo", "--history", "-1").exit_code == 2


def test_a_drain_ends_the_demo() -> None:
    with trio_sse("demo", "--bind", "127.0.0.1:0") as program:
        url = program.stdout.expect(r"(http://\S+)/$")[1]
        with RawStream(f"{url}/events") as stream:
            stream.read_until(b"event: server")
            program.send(signal.SIGINT)
            assert b"retry: " in stream.rest()
            assert program.wait(10) == 0
            assert "Traceback" not in program.stderr.rest()


def test_a_signal_amid_a_start_that_hangs_ends_it(tmp_path: Path) -> None:
    env = {"HANG": str(tmp_path)}
    with trio_sse(
        "serve", "tests.support.apps.hanging_app:server", "--bind", "127.0.0.1:0", env=env
    ) as program:
        program.stderr.expect("hanging")
        program.send(signal.SIGTERM)
        assert program.wait() == 0
