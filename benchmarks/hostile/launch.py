"""Starting the attackers of a scenario, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol, final

import trio

from benchmarks.harness.worker import Worker, started
from benchmarks.hostile.needs import find
from benchmarks.hostile.scenario import Scenario, Settings


class Attack(Protocol):
    """An attack that runs."""

    async def wait(self) -> None:
        """Wait until no further connections are opened."""

    async def stop(self) -> Mapping[str, float]:
        """End it, and return what it has counted."""


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a program of this package."""
    return [sys.executable, "-m", f"benchmarks.hostile.{name}", *arguments]


@asynccontextmanager
async def attacking(scenario: Scenario, settings: Settings, port: int) -> AsyncIterator[Attack]:
    """Run a scenario's attackers in the context."""
    count = max(1, round(settings.connections * scenario.share))
    if scenario.attack is None:
        yield _Nobody(settings.seconds)
    elif scenario.attack.startswith("-"):
        process = _start_slowhttptest(scenario.attack, port, count, settings.seconds)
        try:
            yield _Nobody(settings.seconds)
        finally:
            process.kill()
            process.wait()
    else:
        options = ["--connections", f"{count}", "--seconds", f"{settings.seconds}"]
        options += ["--leave"] if scenario.leaves else []
        command = module("attacker", scenario.attack, "127.0.0.1", f"{port}", *options)
        async with started("attackers", command, None) as worker:
            yield _Attackers(worker)


@final
class _Attackers:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def wait(self) -> None:
        await self._worker.reply()

    async def stop(self) -> Mapping[str, float]:
        return await self._worker.ask("stop")


@final
class _Nobody:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def wait(self) -> None:
        await trio.sleep(self._seconds)

    async def stop(self) -> Mapping[str, float]:
        return {}


def _start_slowhttptest(arguments: str, port: int, count: int, seconds: float) -> subprocess.Popen[bytes]:
    program = find("slowhttptest")
    assert program is not None
    *options, path = arguments.split()
    sizes = ["-c", f"{count}", "-r", f"{max(1, count // 2)}", "-l", f"{seconds:.0f}"]
    command = [program, *options, *sizes, "-u", f"http://127.0.0.1:{port}{path}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)
