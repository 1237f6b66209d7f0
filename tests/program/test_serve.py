"""`trio-sse serve`, run as users run it: as a process, reached through sockets."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trio_sse import Server
from trio_sse._program.errors import ProgramError
from trio_sse._program.listening import Listening, ListenOptions, listen_options
from trio_sse._program.serve import ServiceOptions, serve_until_signalled
from trio_sse.cli import main

from ..support import http
from ..support.certificates import Certificate
from ..support.command_line import APP, FINAL_CHUNK, run
from ..support.ports import free_port
from ..support.programs import RawStream, read_up_to, running, serving, start, trio_sse
from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_it_serves(streams: str) -> None:
    response = http.get(f"{streams}/count/2")
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.text == 'id: 1\nevent: tick\ndata: {"n":1}\n\nid: 2\nevent: tick\ndata: {"n":2}\n\n'


def test_a_module_of_the_working_directory_is_served(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class site:\n    from trio_sse import Server\n    server = Server()\n")
    with trio_sse("serve", "mine:site.server", "--bind", "127.0.0.1:0", cwd=tmp_path) as program:
        url = program.stdout.expect(r"Serving on (\S+) \(")[1]
        assert http.get(f"{url}/health").json() == {"status": "ok"}


def test_metrics_have_an_address_of_their_own() -> None:
    with serving(APP, "--metrics-bind", "127.0.0.1:0", "--metrics-topic", "a/*") as (program, url):
        found = re.search(r"^Metrics and health checks on (\S+)$", program.stdout.text, re.MULTILINE)
        assert found is not None
        assert 'trio_sse_hub_pattern_topics{pattern="a/*"} 0.0' in http.get(f"{found[1]}/metrics").text
        assert http.get(f"{found[1]}/readyz").json() == {"status": "ok"}
        assert http.get(f"{url}/metrics").status_code == 404


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--metrics-bind", "nonsense"], "nonsense"),
        (["--metrics-topic", "other"], "--metrics-topic: 'other'"),
        (["--metrics-topic", "x", "--host", "hypercorn"], "cannot be combined with --host hypercorn"),
    ],
)
def test_options_of_metrics_are_checked(arguments: list[str], error: str) -> None:
    found = CliRunner().invoke(main, ["serve", APP, *arguments])
    assert found.exit_code == 1
    assert error in found.output


def test_it_listens_on_several_addresses() -> None:
    others = ["--bind", "localhost:0", *(("--bind", "[::1]:0") if has_ipv6() else ())]
    with serving(APP, *others) as (program, first):
        urls = [first, program.stdout.expect(r"Serving on (\S+) \(")[1]]
        if has_ipv6():
            urls.append(program.stdout.expect(r"Serving on (http://\[::1\]:\d+) \(")[1])
        assert len(set(urls)) == len(urls)
        for url in urls:
            assert http.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize("how", ["options", "environment"])
def test_keepalive_and_longest_life_can_be_set(how: str) -> None:
    seconds = {"keepalive": "0.02", "max-duration": "1.5"}
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


def test_every_option_can_be_set_in_the_environment() -> None:
    env = {
        "TRIO_SSE_SERVER": APP,
        "TRIO_SSE_BIND": "127.0.0.1:0 localhost:0",
        "TRIO_SSE_LOG_LEVEL": "WARNING",
    }
    with trio_sse("serve", env=env) as program:
        for _ in range(2):
            url = program.stdout.expect(r"Serving on (\S+) \(")[1]
            assert http.get(f"{url}/count/1").status_code == 200
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert program.stderr.rest() == ""


def test_it_logs_each_stream_but_never_the_query() -> None:
    with serving(APP) as (program, url):
        http.get(f"{url}/count/1?key=secret")
        program.stderr.expect(r" INFO trio_sse\S* open id=1 .* path=/count/1$")
        program.stderr.expect(r"close id=1 .* path=/count/1 reason=finished .* events=1 ")
        assert "secret" not in program.stderr.text


def test_it_serves_under_tls(certificate: Certificate) -> None:
    with serving(APP, "--certfile", certificate.chain, "--keyfile", certificate.key) as (_, url):
        assert url.startswith("https://127.0.0.1:")
        assert http.get(f"{url}/count/1", verify=certificate.context).text.endswith('data: {"n":1}\n\n')
        refused = run("tail", f"{url}/count/1", "--no-reconnect")
        assert refused.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
        assert run("tail", f"{url}/count/1", "--insecure", "-n", "1").returncode == 0


def test_the_key_may_be_in_the_file_of_its_certificate(certificate: Certificate) -> None:
    with serving(APP, "--certfile", certificate.both) as (_, url):
        assert http.get(f"{url}/health", verify=certificate.context).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: signal.Signals) -> None:
    with serving(APP) as (program, url), RawStream(f"{url}/live") as stream, http.Client() as idle:
        stream.read_until(b"\r\n\r\n")
        idle.get(f"{url}/health")  # its connection stays open
        program.send(number)
        received = stream.rest()
        assert re.search(rb"\r\nretry: \d+\n\r\n$", received)
        assert not received.endswith(FINAL_CHUNK)
        assert program.wait() == 0
        program.stderr.expect(f"{number.name}: draining")
        program.stderr.expect("reason=server_shutdown")
        assert "Traceback" not in program.stderr.rest()


def test_a_client_that_stopped_reading_does_not_hold_up_a_drain() -> None:
    with serving(APP) as (program, url), RawStream(f"{url}/flood", receive_buffer=4096):
        program.stderr.expect("open id=1 ")  # and its first event is more than can be on the way
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert "reason=server_shutdown" in program.stderr.rest()


def test_a_second_interrupt_stops_at_once() -> None:
    with serving(APP, "--log-level", "debug") as (program, url), RawStream(f"{url}/slow"):
        http.get(f"{url}/health")  # the request before it has been taken by then
        program.send(signal.SIGTERM)
        program.stderr.expect("draining")
        program.send(signal.SIGINT)
        assert program.wait() == 0
        assert "stopping at once" in program.stderr.rest()
        assert "Traceback" not in program.stderr.text


MODULES = {
    "empty.py": "",
    "other.py": "server = 3\n",
    "needy.py": "import not_to_be_found\n",
    "broken.py": "def f():\n    return 1 / 0\n\nf()\n",
    "wrong.py": "def :\n",
    "fine.py": "from trio_sse import Server\nserver = Server()\n",
    "factories.py": (
        "from trio_sse import Server\n\ndef make(): return Server()\n\ndef fail(): return 1 / 0\n\n"
        "def wrong(): return 3\n\nasync def later(): return Server()\n\ndef needy(name): return Server()\n"
    ),
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
        (["fine"], 1, "'fine' is not of the form MODULE:NAME"),
        ([".fine:server"], 1, "'.fine:server' is not of the form MODULE:NAME"),
        ([], 2, "Missing argument 'MODULE:NAME'"),
        (["nowhere:server"], 1, "there is no module 'nowhere'"),
        (["nowhere.at.all:server"], 1, "there is no module 'nowhere.at.all'"),
        (["empty:server"], 1, "module 'empty' has no attribute 'server'"),
        (["other:server"], 1, "'other:server' is neither a trio_sse.Server nor an ASGI app: its type is int"),
        (
            ["needy:server"],
            1,
            "importing 'needy' failed: ModuleNotFoundError: No module named 'not_to_be_found'",
        ),
        (["broken:server"], 1, "broken.py, line 2;"),
        (["wrong:server"], 1, "(wrong.py, line 1)"),
        (["factories:make"], 1, "if it is a factory, write 'factories:make()'"),
        (["factories:none()"], 1, "module 'factories' has no attribute 'none()'"),
        (["factories:fail()"], 1, "calling 'factories:fail()' failed: ZeroDivisionError: division by zero ("),
        (["factories:needy()"], 1, "calling 'factories:needy()' failed: TypeError: "),
        (["factories:wrong()"], 1, "neither a trio_sse.Server nor an ASGI app: its type is int"),
        (["factories:later()"], 1, "a factory must not be async"),
        (["factories:Server.__name__()"], 1, "a factory must be callable, not a str"),
        (["fine:server", "--bind", "x:y"], 1, "'x:y' is not like 127.0.0.1:8000"),
        (["fine:server", "--bind", "127.0.0.1:65536"], 1, "is not like"),
        (["fine:server", "--bind", "::1:8000"], 1, "is not like"),
        (["fine:server", "--bind", ""], 1, "'' is not like"),
        (["fine:server", "--bind", "192.0.2.1:0"], 1, "cannot listen on 192.0.2.1:0: "),
        (["fine:server", "--bind", "a..b:0"], 1, "cannot listen on a..b:0: "),
        (["fine:server", "--keepalive", "0"], 2, "'--keepalive'"),
        (["fine:server", "--max-duration", "nan"], 1, "max_duration must be more than 0 seconds"),
        (["fine:server", "--certfile", "nowhere.pem"], 2, "'nowhere.pem' does not exist"),
        (["fine:server", "--certfile", "fine.py"], 1, "cannot use the certificate fine.py: "),
        (["fine:server", "--keyfile", "fine.py"], 1, "--keyfile needs --certfile"),
    ],
)
def test_what_cannot_be_served_is_reported_in_a_line(
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


def test_a_port_in_use_is_reported_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        finished = run("serve", APP, "--bind", "127.0.0.1:0", "--bind", address)
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"Error: cannot listen on {address}: ")
    assert finished.stderr.count("\n") == 1


def test_debug_logging_shows_why_an_import_fails(modules: Path) -> None:
    finished = run("serve", "broken:server", "--log-level", "debug", cwd=modules)
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert "line 4, in <module>" in finished.stderr


def test_serving_continues_when_its_addresses_go_to_a_broken_pipe() -> None:
    port = free_port()
    command = [sys.executable, "-m", "trio_sse", "serve", APP, "--bind", f"127.0.0.1:{port}"]
    reader, writer = socket.socketpair()
    process = start(command, outputs=(writer.fileno(), subprocess.PIPE))
    assert process.stderr is not None
    try:
        writer.close()
        reader.close()
        read_up_to(process.stderr, "serving on")
        assert http.get(f"http://127.0.0.1:{port}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait(SECONDS)
        process.stderr.close()


def test_serving_works_with_closed_standard_streams() -> None:
    command = f"exec {sys.executable} -m trio_sse serve {APP} --bind 127.0.0.1:0 2>&-"
    with running(["sh", "-c", command]) as program:
        url = program.stdout.expect(r"Serving on (\S+) \(")[1]
        assert http.get(f"{url}/count/1").text.endswith('{"n":1}\n\n')
        program.send(signal.SIGTERM)
        assert program.wait() == 0


async def test_signals_are_handled_before_anybody_can_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = []

    @contextmanager
    def listening_on(options: ListenOptions) -> Iterator[Listening]:
        handlers.append(signal.getsignal(signal.SIGTERM))
        raise ProgramError("not now")
        yield

    monkeypatch.setattr("trio_sse._program.serve.listening_on", listening_on)
    around = ServiceOptions(listen=listen_options(["127.0.0.1:0"]), announce=lambda urls: None)
    with pytest.raises(ProgramError):
        await serve_until_signalled(Server(), around)

    assert handlers != [signal.getsignal(signal.SIGTERM)]
