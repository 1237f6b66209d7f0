"""A service of several workers on a Redis of its own, its clients, and what publishes to it.

Nothing here is pinned to a core: there are more processes than cores, and the kernel spreads them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, final

import trio

from benchmarks.harness.subjects import load
from benchmarks.harness.worker import ROOT, BenchmarkError, Reply, Worker
from tests.support.redis_server import RedisServer, redis_server
from trio_sse import Hub
from trio_sse.redis import RedisLog

#: The streams that one process, server or load, has at most: it may have 20,000 descriptors.
MOST_STREAMS = 19_000

_START_SECONDS = 60.0


@final
class Service:
    """`trio-sse serve --workers`, running. Made by `running` only."""

    def __init__(self, process: trio.Process, status_file: Path) -> None:
        self.port = 0
        self._process = process
        self._status_file = status_file

    def status(self) -> dict[str, Any]:
        """Give what the supervisor tells; it is up to a second old."""
        try:
            return json.loads(self._status_file.read_text())  # type: ignore[no-any-return]
        except FileNotFoundError:
            return {"sum": {}, "workers": [], "restarts": 0}

    @property
    def pids(self) -> list[int]:
        """The supervisor's process and its workers'."""
        return [self._process.pid, *(worker["pid"] for worker in self.status()["workers"])]

    @property
    def pss_bytes(self) -> int:
        """The proportional set size of all its processes together."""
        return sum(_pss(pid) for pid in self.pids)

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of all its processes that run."""
        return sum(_cpu(pid) for pid in self.pids)

    async def wait_until(self, is_so: Callable[[dict[str, Any]], bool], seconds: float) -> float:
        """Wait until the status is as wanted; return for how long."""
        began_at = time.monotonic()
        while not is_so(self.status()):
            if time.monotonic() > began_at + seconds:
                raise BenchmarkError(f"the service is not as it should be: {self.status()['sum']}")
            await trio.sleep(0.2)
        return time.monotonic() - began_at

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        os.kill(self._process.pid, number)

    async def wait(self) -> int:
        """Wait for its end, and give its exit code."""
        return await self._process.wait()


def _pss(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024
    except OSError:
        return 0  # it has ended


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def redis(*options: str) -> AsyncIterator[RedisServer]:
    """Run a Redis with an append-only file that is synced always, unless options say otherwise."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), *options) as server:
        await server.start()
        yield server


@asynccontextmanager
async def running(workers: int, log: str, *options: str, log_timeout: float = 2.0) -> AsyncIterator[Service]:
    """Run a service; it ends with the context, if not before."""
    variables = {"BENCHMARK_LOG": log, "BENCHMARK_LOG_TIMEOUT": f"{log_timeout:g}"}
    with tempfile.TemporaryDirectory() as folder:
        status = Path(folder) / "status.json"
        command = [sys.executable, "-m", "trio_sse", "serve", "benchmarks.servers.workers_app:server"]
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
                raise BenchmarkError("the service didn't start")
            text += received
    return int(text.split(b"\n")[0].rstrip(b"/").rpartition(b":")[2])


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


@final
class Clients:
    """Streams, spread over several loads. Made by `clients` only."""

    def __init__(self, loads: Sequence[Worker], streams: int) -> None:
        self._loads = loads
        share, more = divmod(streams, len(loads))
        self._counts = [share + (index < more) for index in range(len(loads))]
        self.streams = streams

    async def connect(self) -> None:
        """Open all streams."""

        async def connect(worker: Worker, count: int) -> None:
            reply = await worker.ask(f"connect {count}")
            if reply["connected"] != count:
                raise BenchmarkError(f"{reply['connected']:.0f} streams opened instead of {count}")

        async with trio.open_nursery() as nursery:
            for worker, count in zip(self._loads, self._counts, strict=True):
                nursery.start_soon(connect, worker, count)

    async def total(self, name: str) -> int:
        """Give the sum of what all loads report by this name, since they began."""
        return sum([int((await worker.ask("report"))[name]) for worker in self._loads])

    @asynccontextmanager
    async def receiving(self, events: int) -> AsyncIterator[list[Reply]]:
        """Expect so many events on each stream, which are published within the context.

        It ends when all have come, and then has each load's reply. Raises `BenchmarkError` unless each
        stream has got each event, once and in order.
        """
        for worker, count in zip(self._loads, self._counts, strict=True):
            await worker.ask(f"expect {count * events}")
        replies: list[Reply] = []
        yield replies
        for worker, count in zip(self._loads, self._counts, strict=True):
            reply = await worker.reply()
            exact = {
                "events": count * events,
                "fewest_per_stream": events,
                "most_per_stream": events,
                "id_gaps": 0,
            }
            for name, value in exact.items():
                if reply[name] != value:
                    raise BenchmarkError(f"{name} is {reply[name]:.0f}, not {value}")
            replies.append(reply)


@asynccontextmanager
async def clients(port: int, streams: int, *, patience: float = 600.0) -> AsyncIterator[Clients]:
    """Run as many loads as so many streams need; they come back when they are cut."""
    async with AsyncExitStack() as stack:
        loads = []
        for number in range(-(-streams // MOST_STREAMS)):
            options = ("--return", "--source", f"{number}", "--patience", f"{patience:.0f}")
            worker = await stack.enter_async_context(load(port, 0, *options, core=None))
            worker.patience = patience + 30
            loads.append(worker)
        yield Clients(loads, streams)


@final
class Publisher:
    """Publishes events that tell when they were published, and are numbered. Made by `publishing` only."""

    def __init__(self, hub: Hub) -> None:
        self.published = 0
        self.hub = hub

    async def publish(self) -> None:
        """Publish the next event, and wait until it is stored."""
        self.published += 1
        data = f"{time.monotonic_ns():020} {self.published} ".ljust(100, "x")
        await self.hub.publish("live", data)

    async def steady(self, events: int, per_second: float) -> None:
        """Publish so many, evenly; one that takes longer to be stored doesn't hold the others up."""
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for index in range(events):
                await trio.sleep_until(began_at + index / per_second)
                nursery.start_soon(self.publish)


@asynccontextmanager
async def publishing(url: str) -> AsyncIterator[Publisher]:
    """Run a hub on the service's log, in this process."""
    hub = Hub(log=RedisLog(url, publish_timeout=120, timeout=30), history=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield Publisher(hub)
        nursery.cancel_scope.cancel()
