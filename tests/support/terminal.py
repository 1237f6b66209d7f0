"""A terminal that a program runs in, and its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyte

from .programs import ROOT, environment
from .waiting import SECONDS

LINES, COLUMNS = 30, 120


class Terminal:
    """A terminal, whose screen a thread keeps up to date.

    Attributes:
        raw: all that the program has written.
    """

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.raw = b""
        self._descriptor = descriptor
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except OSError:  # the program has ended
                data = b""
            with self._changed:
                self._is_over = not data
                self.raw += data
                self._stream.feed(data)
                self._changed.notify_all()
            if not data:
                return

    @property
    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows something."""
        with self._changed:
            expression = re.compile(pattern, re.MULTILINE)
            self._changed.wait_for(lambda: expression.search(self.text) or self._is_over, SECONDS)
            found = expression.search(self.text)
            assert found, f"the screen does not show {pattern!r}, but:\n{self.text}"
            return found

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def wait(self) -> int:
        """Wait until the program has ended; return its exit status."""
        return self.process.wait(SECONDS)


@contextmanager
def terminal(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """Run the program of this project in a terminal; at the end, it has ended."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "trio_sse", *arguments],
        cwd=ROOT,
        env=environment({"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(env or {})}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    opened = Terminal(ours, process)
    try:
        yield opened
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(SECONDS)
        opened._thread.join(SECONDS)
        os.close(ours)
