"""Worker processes: a server, a floor or a load, pinned to a core and driven by lines.

A worker takes commands as lines on its stdin and answers with lines of JSON on its stdout. The end of its
stdin is its order to end, so no worker outlives the benchmark that started it, however that one ends.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import final

import trio

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parent

#: Longer than any command takes: the load itself gives up after two minutes, and says what it lacks.
PATIENCE = 150.0

Reply = Mapping[str, float]


class BenchmarkError(Exception):
    """A worker failed or reported something that makes the measurement worthless."""


# As it was at the start: later this process pins itself too.
_CORES = os.sched_getaffinity(0)
SERVER_CORE = min(_CORES)
LOAD_CORE = max(_CORES)  # another one than the servers', if there is one


@final
class Worker:
    """A process that answers commands. Made by `started` only; for one task at a time."""

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
            raise BenchmarkError(f"{self.name} has ended") from None
        return await self.reply()

    async def reply(self) -> Reply:
        """Wait for the next reply and return its numbers.

        Raises:
            BenchmarkError: the worker reports an error, has ended, or stays silent.
        """
        with trio.move_on_after(self.patience):
            message = json.loads(await self._line())
            if "error" in message:
                raise BenchmarkError(f"{self.name}: {message['error']} ({message})")
            return {name: float(value) for name, value in message.items() if name != "reply"}
        raise BenchmarkError(f"{self.name} gave no answer for {self.patience:.0f} s")

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            received = await self._process.stdout.receive_some()
            if not received:
                raise BenchmarkError(f"{self.name} has ended")
            self._unread += received
        line, self._unread = self._unread.split(b"\n", 1)
        return line


@contextmanager
def on_all_cores() -> Iterator[None]:
    """Let this process, and those that it starts meanwhile, run on any core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def started(name: str, command: Sequence[str], core: int | None) -> AsyncIterator[Worker]:
    """Run a worker, on one core or any, for as long as the context lasts. Its stderr is ours."""
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        os.sched_setaffinity(process.pid, _CORES if core is None else {core})
        yield Worker(name, process)
    finally:
        await _end(process)


async def _end(process: trio.Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.move_on_after(10, shield=True):
        await process.stdin.aclose()
        await process.wait()
    process.kill()  # does nothing to one that has ended
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
        await process.wait()
        await process.stdout.aclose()
