"""Modules run as programs, in forks of a process that has imported them, which start in 20 ms."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from .fork_server import LONGEST_REQUEST
from .waiting import SECONDS

#: An interpreter reads them when it starts, which a fork does not.
_READ_AT_THE_START = ("PYTHON", "LC_", "LANG", "COVERAGE_")


def can_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a fork would be what a start with this environment is.

    It would not where coverage is measured, as that begins with the interpreter.
    """
    if not hasattr(os, "pidfd_open") or any(name.startswith("COVERAGE_") for name in environment):
        return False
    return _read_at_the_start(environment) == _read_at_the_start(os.environ)


def _read_at_the_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_THE_START) and name != "PYTHONUNBUFFERED"
    }


class Fork:
    """A module that runs in a fork: what the tests use of `subprocess.Popen`."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        outputs: tuple[int, int] = (subprocess.PIPE, subprocess.PIPE),
    ) -> None:
        """Begin to run it; its outputs go to pipes, or to these descriptors."""
        self._server = _server()
        self.returncode: int | None = None
        request = {
            "module": module,
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": dict(environment),
        }
        with contextlib.ExitStack() as stack:
            nothing = stack.enter_context(open(os.devnull, "r+b")).fileno()
            pipes = [_output(given, nothing, stack) for given in outputs]
            self.stdout, self.stderr = (ours for ours, _ in pipes)
            self.pid = self._server.ask(request, [nothing, *(its for _, its in pipes)])
        self._ended = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Return its exit status, or none while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float) -> int:
        """Wait until it has ended; return its exit status."""
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self._ended, select.POLLIN)
            if not waiting.poll(timeout * 1000):
                raise subprocess.TimeoutExpired(f"a fork, {self.pid}", timeout)
            os.close(self._ended)
            self.returncode = self._server.ask({"status_of": self.pid})
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def _output(given: int, nothing: int, stack: contextlib.ExitStack) -> tuple[IO[str] | None, int]:
    """Return our end of an output, if it has one, and the program's."""
    if given != subprocess.PIPE:
        return None, nothing if given == subprocess.DEVNULL else given
    ours, its = os.pipe()
    stack.callback(os.close, its)
    return open(ours, encoding="utf-8"), its


class _Server:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self._connection, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with its_end:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("fork_server.py"), f"{its_end.fileno()}"],
                env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its_end.fileno()],
            )
        atexit.register(self._end)

    def ask(self, request: Mapping[str, object], streams: Sequence[int] = ()) -> int:
        """Return the answer to a request."""
        with self._lock:
            socket.send_fds(self._connection, [json.dumps(request).encode()], streams)
            answer = self._connection.recv(LONGEST_REQUEST)
        assert answer, "the process that forks has ended"
        return int(json.loads(answer))

    def _end(self) -> None:
        self._connection.close()
        self._process.wait(SECONDS)


_server = cache(_Server)
