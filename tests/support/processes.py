"""Programs as processes of a Trio test: what they print is a stream, and none outlives its block."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from .requirements import find
from .waiting import SECONDS

_KILL_SECONDS = 10.0


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[trio.Process]:
    """Run a command, and kill it at the end; its `stdout` is a stream."""
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _KILL_SECONDS):
            if process.poll() is None:
                process.kill()
            await process.wait()
            assert process.stdout is not None
            await process.stdout.aclose()


def curl(url: str, *options: str) -> AbstractAsyncContextManager[trio.Process]:
    """Ask for a URL; what has come of the response is printed at once."""
    return running(find("curl"), "-N", "-s", "-S", *options, url)


async def read_until(process: trio.Process, end: bytes) -> None:
    """Read what a process prints until it ends with something."""
    received = b""
    assert process.stdout is not None
    with trio.move_on_after(SECONDS):
        while not received.endswith(end):
            data = await process.stdout.receive_some()
            assert data, f"closed before {end!r}: {received!r}"
            received += data
    assert received.endswith(end), f"no {end!r}: {received!r}"


async def output_of(*command: str) -> str:
    """Run a command that must succeed; return what it prints."""
    with trio.fail_after(SECONDS):
        return (await trio.run_process(command, capture_stdout=True)).stdout.decode()
