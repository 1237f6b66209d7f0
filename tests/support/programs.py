"""Programs as processes: what they print is waited for, and none of them outlives its test."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from .forks import Fork, can_fork
from .waiting import SECONDS

ROOT = Path(__file__).parents[2]

_KILL_SECONDS = 10.0  # for a program to end by itself when its test is over


class Output:
    """What a process prints on one pipe, read by its own thread."""

    def __init__(self, pipe: IO[str]) -> None:
        self.text = ""
        self._pipe = pipe
        self._expected_up_to = 0
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self._pipe:
                with self._changed:
                    self.text += line
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait for a match after the one that was expected before."""
        with self._changed:
            expression = re.compile(pattern, re.MULTILINE)
            self._changed.wait_for(
                lambda: self._is_over or expression.search(self.text, self._expected_up_to), SECONDS
            )
            found = expression.search(self.text, self._expected_up_to)
            assert found, f"it did not print {pattern!r}, but:\n{self.text}"
            self._expected_up_to = found.end()
            return found

    def rest(self) -> str:
        """Wait until the pipe is closed; return all that was printed."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the pipe is still open"
        return self.text


def read_up_to(pipe: IO[str] | None, pattern: str) -> re.Match[str]:
    """Read what a program prints up to a match, in a test that does not read all of it."""
    assert pipe is not None
    deadline = time.monotonic() + SECONDS
    text = ""
    while not (found := re.search(pattern, text, re.MULTILINE)):
        assert select.select([pipe], [], [], max(deadline - time.monotonic(), 0))[0], (
            f"it does not print {pattern!r}, but:\n{text}"
        )
        data = os.read(pipe.fileno(), 1 << 16)
        assert data, f"it did not print {pattern!r}, but:\n{text}"
        text += data.decode()
    return found


class Program:
    """A running program."""

    def __init__(self, process: subprocess.Popen[str] | Fork) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdout = Output(process.stdout)
        self.stderr = Output(process.stderr)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait until it has ended; return its exit status."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """End it, one way or another."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(SECONDS)
        for output, pipe in ((self.stdout, self.process.stdout), (self.stderr, self.process.stderr)):
            output.rest()
            assert pipe is not None
            pipe.close()


def environment(further: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without the variables that change how the program works."""
    changing = ("TRIO_SSE_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(changing)}
    return {**kept, **(further or {})}


def tool_environment() -> dict[str, str]:
    """Return the environment of a tool such as mypy: it is slow where its coverage is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Program]:
    """Run a command; at the end, the process has ended."""
    program = Program(start(command, cwd=cwd, env=env, pass_fds=pass_fds))
    try:
        yield program
    finally:
        program.end()


def start(
    command: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    outputs: tuple[int, int] = (subprocess.PIPE, subprocess.PIPE),
) -> subprocess.Popen[str] | Fork:
    """Begin to run a command, as a fork if that is the same; the caller ends it and closes its pipes."""
    env = environment(env)
    if command[:2] == [sys.executable, "-m"] and not pass_fds and can_fork(env):
        _, _, module, *arguments = map(str, command)
        return Fork(module, arguments, cwd, env, outputs)
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=outputs[0],
        stderr=outputs[1],
        encoding="utf-8",
        pass_fds=pass_fds,
    )


@contextmanager
def trio_sse(
    *arguments: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run the program of this project."""
    with running([sys.executable, "-m", "trio_sse", *arguments], cwd=cwd, env=env) as program:
        yield program


@contextmanager
def serving(
    target: str, *options: str | Path, bind: str = "127.0.0.1:0", env: Mapping[str, str] | None = None
) -> Iterator[tuple[Program, str]]:
    """Run `trio-sse serve`; give the program and the URL that it prints, without a path."""
    with trio_sse("serve", target, "--bind", bind, *options, env=env) as program:
        yield program, program.stdout.expect(r"Serving on (https?://\S+) \(")[1]


@contextmanager
def example(
    name: str, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Program, str]]:
    """Run an example on a free port; yield the program and the first URL that it prints, without a path."""
    command = [sys.executable, "-m", f"examples.{name}", *arguments]
    with running(command, env={"PORT": "0", **(env or {})}) as program:
        yield program, program.stdout.expect(r"https?://127\.0\.0\.1:\d+")[0]


class RawStream:
    """A response as its bytes, read from a socket."""

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        """Ask for a URL."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.settimeout(SECONDS)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect((parts.hostname, parts.port))
        target = f"{parts.path}?{parts.query}"
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        self.received = b""
        self.port: int = self._socket.getsockname()[1]  # ours

    def __enter__(self) -> RawStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def read_until(self, end: bytes) -> bytes:
        """Read until these bytes have come; return all that came."""
        deadline = time.monotonic() + SECONDS
        while end not in self.received:
            data = self._socket.recv(65536)
            assert data, f"closed before {end!r}: {self.received!r}"
            self.received += data
            assert time.monotonic() < deadline, f"no {end!r}: {self.received!r}"
        return self.received

    def rest(self) -> bytes:
        """Read until the server closes; return all that came."""
        deadline = time.monotonic() + SECONDS
        while data := self._socket.recv(65536):
            self.received += data
            assert time.monotonic() < deadline, f"the server does not close: {self.received!r}"
        return self.received
