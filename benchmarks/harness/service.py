"""A service of several workers on its own Redis.

It is not pinned to a core: there are more processes than cores, and the kernel schedules them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, final

import trio

from benchmarks.harness.paths import ROOT
from benchmarks.harness.worker import BenchmarkError
from tests.support.redis_server import RedisServer, redis_server

_START_SECONDS = 60.0


@final
class Service:
    """A running `trio-sse serve --workers`. Only `running` creates it."""

    def __init__(self, process: trio.Process, status_file: Path) -> None:
        self.port = 0
        self._process = process
        self._status_file = status_file

    def status(self) -> dict[str, Any]:
        """Return the supervisor's status. It is up to a second old."""
        try:
            return json.loads(self._status_file.read_text())  # type: ignore[no-any-return]
        except FileNotFoundError:
            return {"sum": {}, "workers": [], "restarts": 0}

    @property
    def pids(self) -> list[int]:
        """The process ids of the supervisor and its workers."""
        return [self._process.pid, *(worker["pid"] for worker in self.status()["workers"])]

    @property
    def pss_bytes(self) -> int:
        """The proportional set size of all processes together."""
        return sum(_pss(pid) for pid in self.pids)

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of all running processes."""
        return sum(_cpu(pid) for pid in self.pids)

    async def wait_until(self, is_so: Callable[[dict[str, Any]], bool], seconds: float) -> float:
        """Wait until the status fulfils `is_so`. Return how many seconds it took."""
        began_at = time.monotonic()
        while not is_so(self.status()):
            if time.monotonic() > began_at + seconds:
                raise BenchmarkError(f"the service did not reach the expected status: {self.status()['sum']}")
            await trio.sleep(0.2)
        return time.monotonic() - began_at

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        os.kill(self._process.pid, number)

    async def wait(self) -> int:
        """Wait until it exits. Return its exit status."""
        return await self._process.wait()


def _pss(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024
    except OSError:
        return 0  # it has exited


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def redis(*options: str) -> AsyncIterator[RedisServer]:
    """Run a Redis that syncs its append-only file always, unless `options` change that."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), *options) as server:
        await server.start()
        yield server


@asynccontextmanager
async def running(
    workers: int,
    log: str,
    *options: str,
    log_timeout: float = 2.0,
    app: str = "benchmarks.servers.workers_app:server",
) -> AsyncIterator[Service]:
    """Run a service until the end of the context."""
    variables = {"BENCHMARK_LOG": log, "BENCHMARK_LOG_TIMEOUT": f"{log_timeout:g}"}
    with tempfile.TemporaryDirectory() as folder:
        status = Path(folder) / "status.json"
        command = [sys.executable, "-m", "trio_sse", "serve", app]
        command += ["--workers", f"{workers}", "--status-file", str(status)]
        command += ["--bind", "127.0.0.1:0", "--log-level", "warning", *options]
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, **variables}
        )
        service = Service(process, status)
        try:
            service.port = await _port(process)
            await service.wait_until(
                lambda status: sum("opened" in worker for worker in status["workers"]) == workers,
                _START_SECONDS,
            )
            yield service
        finally:
            await _end(process)


async def _port(process: trio.Process) -> int:
    assert process.stdout is not None
    text = b""
    with trio.fail_after(_START_SECONDS):
        while b"\n" not in text:
            received = await process.stdout.receive_some()
            if not received:
                raise BenchmarkError("the service did not start")
            text += received
    found = re.search(rb"https?://[^ ]+:(\d+)", text)  # the protocols may follow
    if found is None:
        raise BenchmarkError(f"the service has said {text!r}")
    return int(found[1])


async def _end(process: trio.Process) -> None:
    assert process.stdout is not None
    if process.returncode is None:
        process.terminate()
    with trio.move_on_after(60, shield=True):
        await process.wait()
    process.kill()
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
        await process.wait()
        await process.stdout.aclose()
