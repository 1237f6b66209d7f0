"""`trio-sse serve --reload`: a change restarts the program, and nothing hangs or is refused meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from trio_sse._program.reloader import take_inherited

from ..support import http
from ..support.cases import each_case
from ..support.programs import Program, RawStream, trio_sse
from ..support.waiting import SECONDS

APP = """
from trio_sse import Response, Server

server = Server(drain_timeout=600)

@server.endpoint("/")
async def page(request):
    return Response("{text}")

@server.route("/live")
async def live(connection):
    await connection.subscribe("live")
"""


def write(folder: Path, text: str) -> None:
    """Replace the app's file in one step, as most editors do."""
    beside = folder / "app.py.new"
    beside.write_text(text)
    beside.replace(folder / "app.py")


@pytest.mark.integration
def test_a_change_restarts_the_program(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    write(tmp_path, APP.format(text="first"))
    arguments = ["serve", "app:server", "--bind", "127.0.0.1:0", "--reload"]
    with trio_sse(*arguments, cwd=tmp_path, env={"TRIO_SSE_WORKERS": "4"}) as program:
        program.stderr.expect(r"--reload runs one process: --workers and --status-file are ignored$")
        url = program.stdout.expect(r"Serving on (\S+) \(")[1]
        assert http.get(url).text == "first"
        with RawStream(f"{url}/live") as stream:
            stream.read_until(b"\r\n\r\n")
            (tmp_path / "notes.txt").write_text("this is not watched")
            write(tmp_path, APP.format(text="second"))
            assert b"\r\nretry: 1000\n" in stream.rest()
        program.stderr.expect(r"reloading: app\.py changed$")
        program.stdout.expect(rf"Serving on {url} \(")  # until then, the one that drains may answer
        assert http.get(url).text == "second"

        write(tmp_path, "def :")
        program.stderr.expect("the program has ended with status 1: waiting for a change")
        parts = httpx.URL(url)
        with socket.create_connection((parts.host, parts.port or 0), SECONDS) as waiting:
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            write(tmp_path, APP.format(text="third"))
            received = b"".join(iter(lambda: waiting.recv(4096), b""))
            assert received.endswith(b"third")
        check_end(program, url)


def check_end(program: Program, url: str) -> None:
    program.send(signal.SIGINT)
    assert program.wait() == 0
    assert "Traceback" not in program.stderr.rest()
    with pytest.raises(httpx.ConnectError):
        http.get(url)


@pytest.mark.integration
def test_a_child_ends_with_the_process_that_watches(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    write(tmp_path, APP.format(text="first"))
    with trio_sse("serve", "app:server", "--bind", "127.0.0.1:0", "--reload", cwd=tmp_path) as program:
        url = program.stdout.expect(r"Serving on (\S+) \(")[1]
        with RawStream(f"{url}/live") as stream:
            stream.read_until(b"\r\n\r\n")
            program.send(signal.SIGKILL)
            stream.rest()
        program.stderr.rest()  # nobody has it any more


def test_what_a_child_inherits_is_taken_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert take_inherited({}) is None
    reading, writing = os.pipe()
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    environment = {"TRIO_SSE_RELOADED": f"{reading},{listening.detach()}", "HOME": "/"}
    inherited = take_inherited(environment)
    assert inherited is not None
    assert environment == {"HOME": "/"}
    assert inherited.parent_alive == reading
    (taken,) = inherited.listen.inherited.values()
    assert taken.getsockname() == address
    taken.close()
    os.close(reading)
    os.close(writing)


@each_case(
    ("path", "counts"),
    [
        ("/app/main.py", True),
        ("/app/page.html", True),
        ("/app/generated.py", False),
        ("/app/old/main.py", False),
        ("/app/notes.txt", False),
    ],
)
def test_patterns_say_which_files_count(path: str, counts: bool) -> None:
    pytest.importorskip("watchfiles")
    from trio_sse._program.file_watcher import Watched

    watched = Watched(folders=[], include=["*.py", "*.html"], exclude=["generated.py", "/app/old/*"])
    assert watched.matches(path) == counts
