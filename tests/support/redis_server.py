"""The test's own Redis, which can be killed, stopped and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from .ports import free_port
from .requirements import find
from .waiting import SECONDS


class RedisServer:
    """A server on a free port, with an append-only file in `folder` that is synced always."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it, without waiting until it answers."""
        durable = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        self._process = subprocess.Popen(
            [find("redis-server"), *place, *durable, *self._options],
            stdout=subprocess.DEVNULL,
        )

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.launch()
        with trio.fail_after(SECONDS):
            while b"LOADING" in (answer := await self._ask(b"PING\r\n")) or not answer:  # noqa: ASYNC110  # another process
                await trio.sleep(0.02)

    async def _ask(self, command: bytes) -> bytes:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        except OSError:
            return b""
        async with stream:
            await stream.send_all(command)
            return bytes(await stream.receive_some())

    async def do(self, command: str) -> bytes:
        """Send an inline command and give the answer."""
        return await self._ask(command.encode() + b"\r\n")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Remove what it has stored."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Make a server that is not started yet, and end it."""
    server = RedisServer(folder, *options)
    try:
        yield server
    finally:
        server.kill()
