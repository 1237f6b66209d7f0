"""The program on Unix sockets and on sockets that it has inherited, in one process and with workers."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ..support import http
from ..support.programs import Program, running

pytestmark = pytest.mark.integration

APP = "tests.support.apps.worker_app:server"

# Starts the program as systemd does: the sockets are the descriptors from 3 on.
ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "trio_sse", "serve", *sys.argv[2:]])
"""


@pytest.fixture
def inherited() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@contextmanager
def over(path: Path) -> Iterator[httpx.Client]:
    with http.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://app") as client:
        yield client


def url_of(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def check_end(program: Program, path: Path, inherited: socket.socket) -> None:
    """Stop the program. Its socket has gone, and the inherited one waits for the next program."""
    with over(path) as client, client.stream("GET", "/live") as response:
        lines = response.iter_lines()
        next(lines)
        program.send(signal.SIGTERM)
        with pytest.raises(httpx.RemoteProtocolError):  # it is cut, so that the client reconnects
            list(lines)
    assert program.wait() == 0
    assert "Traceback" not in program.stderr.rest()
    assert not path.exists()
    with socket.create_connection(inherited.getsockname(), 10):
        inherited.accept()[0].close()


def test_one_process_serves_a_unix_socket_and_a_descriptor(inherited: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    number = inherited.fileno()
    command = [sys.executable, "-m", "trio_sse", "serve", APP]
    command += ["--bind", f"unix:{path}", "--bind", f"fd://{number}", "--unix-mode", "600"]
    with running(command, pass_fds=[number]) as program:
        program.stdout.expect(rf"^Serving on {url_of(inherited)} \(HTTP/1\.1\)$")
        program.stdout.expect(rf"^Serving on unix:{path} \(HTTP/1\.1\)$")
        assert path.stat().st_mode & 0o777 == 0o600
        pid = f"{program.process.pid}"
        assert http.get(f"{url_of(inherited)}/pid").text == pid
        with over(path) as client:
            assert client.get("/pid").text == pid
        check_end(program, path, inherited)


def test_workers_share_a_unix_socket_and_an_activated_one(inherited: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    number = inherited.fileno()
    options = [APP, "--bind", f"unix:{path}", "--workers", "2", "--separate-hubs"]
    command = [sys.executable, "-c", ACTIVATE, f"{number}", *options]
    with running(command, pass_fds=[number]) as program:
        program.stdout.expect(rf"^Serving on {url_of(inherited)} \(HTTP/1\.1\)$")
        workers = {program.stderr.expect(r"worker \d started as pid (\d+)")[1] for _ in range(2)}
        with over(path) as client:
            assert client.get("/pid").text in workers
        assert http.get(f"{url_of(inherited)}/pid").text in workers
        with pytest.raises(httpx.RemoteProtocolError), over(path) as client:
            client.post("/die")
        program.stderr.expect(r"worker \d started as pid")
        assert http.get(f"{url_of(inherited)}/pid").text
        check_end(program, path, inherited)
