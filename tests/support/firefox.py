"""Headless Firefox for tests, driven by Marionette, its own protocol: lengths and JSON over TCP."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .ports import free_port
from .waiting import SECONDS


class Firefox:
    """A session with a browser that accepts any certificate."""

    def __init__(self, port: int) -> None:
        self._socket = _connect(port)
        self._messages = self._socket.makefile("rb")
        self._count = 0
        self._read()  # its greeting
        self._send("WebDriver:NewSession", acceptInsecureCerts=True)

    def _read(self) -> Any:
        size = b""
        while (byte := self._messages.read(1)) != b":":
            assert byte, "Firefox has ended"
            size += byte
        return json.loads(self._messages.read(int(size)))

    def _send(self, command: str, **parameters: object) -> Any:
        self._count += 1
        message = json.dumps([0, self._count, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def open(self, url: str) -> None:
        """Load a page."""
        self._send("WebDriver:Navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, which runs as a script of the page."""
        script = """
            const script = document.createElement("script");
            script.textContent = `document.body.dataset.value = JSON.stringify(${arguments[0]}) ?? "null"`;
            document.body.append(script);
            return document.body.dataset.value;
        """
        return json.loads(self._send("WebDriver:ExecuteScript", script=script, args=[expression])["value"])

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)

    def close(self) -> None:
        """Close the connection."""
        self._messages.close()
        self._socket.close()


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            connected = socket.create_connection(("127.0.0.1", port))
        except OSError:
            assert time.monotonic() < deadline, "Firefox does not start"
            time.sleep(0.1)
        else:
            connected.settimeout(SECONDS)
            return connected


@contextmanager
def firefox(program: str, profile: Path) -> Iterator[Firefox]:
    """Run the browser with a new profile."""
    port = free_port()
    (profile / "user.js").write_text(f'user_pref("marionette.port", {port});\n')
    command = [program, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            session = Firefox(port)
            yield session
            session.close()
        finally:
            process.terminate()
