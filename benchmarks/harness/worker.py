"""Worker processes: a server, the floor or a load, pinned to a core and controlled by lines.

A worker reads commands as lines from stdin and answers with lines of JSON on stdout. It exits when its stdin
is closed, so no worker outlives the benchmark that started it, however the benchmark ends.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import final

import trio

from benchmarks.harness.cores import ALL_CORES
from benchmarks.harness.paths import ROOT

#: Longer than any command takes: the load itself stops after two minutes and reports what is missing.
PATIENCE = 150.0

Reply = Mapping[str, float]


class BenchmarkError(Exception):
    """A worker failed, or reported something that makes the measurement worthless."""


@final
class Worker:
    """A process that answers commands. Only `started` creates it. One task uses it at a time."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.patience = PATIENCE
        self._process = process
        self._unread = b""

    async def ask(self, command: str) -> Reply:
        """Send a command and return the next reply."""
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(f"{command}\n".encode())
        except trio.BrokenResourceError:
            raise BenchmarkError(f"{self.name} has exited") from None
        return await self.reply()

    async def reply(self) -> Reply:
        """Wait for the next reply and return its numbers.

        Raises:
            BenchmarkError: the worker reports an error, has exited, or does not answer in time.
        """
        with trio.move_on_after(self.patience):
            message = json.loads(await self._line())
            if "error" in message:
                raise BenchmarkError(f"{self.name}: {message['error']} ({message})")
            return {name: float(value) for name, value in message.items() if name != "reply"}
        raise BenchmarkError(f"{self.name} did not answer for {self.patience:.0f} s")

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            received = await self._process.stdout.receive_some()
            if not received:
                raise BenchmarkError(f"{self.name} has exited")
            self._unread += received
        line, self._unread = self._unread.split(b"\n", 1)
        return line


@asynccontextmanager
async def started(name: str, command: Sequence[str], core: int | None) -> AsyncIterator[Worker]:
    """Run a worker on one core, or on any, for as long as the context lasts. It shares this stderr."""
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        os.sched_setaffinity(process.pid, ALL_CORES if core is None else {core})
        yield Worker(name, process)
    finally:
        await _end(process)


async def _end(process: trio.Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.move_on_after(10, shield=True):
        await process.stdin.aclose()
        await process.wait()
    process.kill()  # does nothing if it has exited
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
        await process.wait()
        await process.stdout.aclose()
