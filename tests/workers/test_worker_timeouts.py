"""Workers that hang, at their start or later, are killed, and swallow no connections until then."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..support.ports import free_port
from ..support.programs import Program, serving, trio_sse
from ..support.waiting import until_blocking
from ..support.workers import is_alive, pids_of

pytestmark = pytest.mark.integration

APP = "tests.support.apps.hanging_app:server"
STARTED = r"worker (\d) started as pid (\d+)"


@contextmanager
def hanging(tmp_path: Path, *options: str) -> Iterator[tuple[Program, str, Path]]:
    """Run two workers; those that start while the file exists hang."""
    hang = tmp_path / "hang"
    arguments = ("--workers", "2", "--separate-hubs", *options)
    with serving(APP, *arguments, env={"HANG": str(hang)}) as (program, url):
        yield program, url, hang


def started(program: Program, url: str) -> set[int]:
    """Return the ids of the two workers, once both answer and what they logged has been read."""
    pids = pids_of(url, 2)
    program.send(signal.SIGUSR1)
    program.stderr.expect("status: ")
    return pids


def ask_at_once(url: str, count: int, *, seconds: float = 60) -> list[int | None]:
    """Ask on this many connections at the same time; return the process that answers each, if any does.

    Wait `seconds` for each of the answers.
    """
    address = url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection((address[0], int(address[1])), seconds))
            for _ in range(count)
        ]
        for client in clients:
            client.sendall(b"GET /pid HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        return [_answer(client) for client in clients]


def _answer(client: socket.socket) -> int | None:
    try:
        return int(client.makefile("rb").read().rpartition(b"\n")[2])
    except (TimeoutError, ConnectionResetError):
        return None


@contextmanager
def blocked(url: str, pid: int, fifo: Path) -> Iterator[None]:
    """Block the event loop of one process."""
    os.mkfifo(fifo)
    host, port = url.removeprefix("http://").split(":")
    body = str(fifo).encode()
    while True:
        with socket.create_connection((host, int(port)), 60) as client:
            client.sendall(b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n")
            if int(client.recv(4096).rpartition(b"\n")[2]) == pid:
                head = b"POST /block HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body)
                client.sendall(head + body)
                yield
                return


def test_a_worker_that_hangs_at_its_start_gets_no_connections(tmp_path: Path) -> None:
    with hanging(tmp_path, "--start-timeout", "300") as (program, url, hang):
        slots = {int(pid): slot for slot, pid in (program.stderr.expect(STARTED).groups() for _ in range(2))}
        victim, other = sorted(started(program, url))
        hang.touch()
        os.kill(victim, signal.SIGKILL)
        program.stderr.expect(f"no worker accepts connections in slot {slots[victim]}")
        until_blocking(lambda: "hanging" in program.stderr.text)
        until_blocking(lambda: set(ask_at_once(url, 20, seconds=0.5)) == {other})
        assert ask_at_once(url, 20) == [other] * 20


def test_a_worker_that_hangs_at_its_start_is_killed_and_restarted_with_backoff(tmp_path: Path) -> None:
    with hanging(tmp_path, "--start-timeout", "1") as (program, url, hang):
        first = started(program, url)
        hang.touch()
        os.kill(min(first), signal.SIGKILL)
        ended = r"pid (\d+), ended after \d+ s: SIGKILL; restarting it in ([\d.]+) s"
        program.stderr.expect(ended)
        delays: list[float] = []
        for _ in range(2):
            (pid,) = program.stderr.expect(r"pid (\d+), did not start within 1 s: killing it").groups()
            found = program.stderr.expect(ended)
            assert found[1] == pid
            delays.append(float(found[2]))
        assert all(delay >= 0.5 for delay in delays)
        hang.unlink()
        until_blocking(lambda: len(set(ask_at_once(url, 20))) == 2)
        program.send(signal.SIGTERM)
        assert program.wait() == 0


def test_connections_wait_while_all_workers_start(tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    hang.touch()
    host, port = "127.0.0.1", free_port()  # which is not printed before a worker accepts
    arguments = ("--workers", "2", "--separate-hubs", "--start-timeout", "3", "--bind", f"{host}:{port}")
    with trio_sse("serve", APP, *arguments, env={"HANG": str(hang)}) as program:
        for _ in range(2):
            program.stderr.expect("hanging")
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection((host, port), 60)) for _ in range(10)]
            for client in clients:
                client.sendall(b"GET /pid HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            assert "Serving on" not in program.stdout.text
            hang.unlink()
            assert "no worker accepts" not in program.stderr.text
            answers = [client.makefile("rb").read() for client in clients if _is_open(client)]
            assert answers
            assert all(b" 200 " in answer for answer in answers)


def _is_open(client: socket.socket) -> bool:
    """Return whether a client is answered: those of the slot that is second may be reset."""
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except ConnectionResetError:
        return False


def test_a_worker_whose_event_loop_stands_still_gets_no_connections_and_is_killed(tmp_path: Path) -> None:
    with hanging(tmp_path, "--worker-timeout", "4") as (program, url, _):
        victim = min(started(program, url))
        with blocked(url, victim, tmp_path / "fifo"):
            (slot,) = program.stderr.expect(r"no worker accepts connections in slot (\d)").groups()
            assert victim not in ask_at_once(url, 20)
            killing = f"worker {slot}, pid {victim}, has been silent for 4 s: killing it"
            until_blocking(lambda: killing in program.stderr.text)
            program.stderr.expect(f"worker {slot} started")
        until_blocking(lambda: len(set(ask_at_once(url, 20))) == 2)
        assert not is_alive(victim)


def test_a_worker_that_is_heard_again_gets_connections_again(tmp_path: Path) -> None:
    with hanging(tmp_path, "--worker-timeout", "8") as (program, url, _):
        pids = started(program, url)
        with blocked(url, min(pids), tmp_path / "fifo"):
            (slot,) = program.stderr.expect(r"no worker accepts connections in slot (\d)").groups()
            (tmp_path / "fifo").write_text("")
            program.stderr.expect(f"slot {slot} listens again")
        assert pids_of(url, 2) == pids
        assert "killing" not in program.stderr.text


def test_workers_that_stood_still_with_their_supervisor_are_not_killed(tmp_path: Path) -> None:
    with hanging(tmp_path, "--worker-timeout", "4") as (program, url, _):
        pids = started(program, url)
        everyone = [*pids, program.process.pid]
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        signal.sigtimedwait([], 5)  # longer than the timeout
        os.kill(program.process.pid, signal.SIGCONT)
        program.send(signal.SIGUSR1)
        program.stderr.expect("status: ")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert pids_of(url, 2) == pids
        assert "killing" not in program.stderr.text


@pytest.mark.parametrize("timeout", ["nan", "3.9"])
def test_a_timeout_that_cannot_be_kept_is_refused(timeout: str) -> None:
    from ..support.command_line import run

    finished = run("serve", APP, "--workers", "2", "--worker-timeout", timeout)
    assert finished.returncode == 1
    assert re.fullmatch(r"Error: .*--worker-timeout must be .*\n", finished.stderr)
