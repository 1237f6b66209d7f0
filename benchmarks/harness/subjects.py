"""The servers under test by name, and the load that connects to them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from benchmarks.harness import programs
from benchmarks.harness.cores import LOAD_CORE, SERVER_CORE
from benchmarks.harness.worker import BenchmarkError, Worker, started

#: Starts a server. The value of the context is the server and its port.
StartServer = Callable[[], AbstractAsyncContextManager[tuple[Worker, int]]]


@asynccontextmanager
async def _server(name: str, command: Sequence[str]) -> AsyncIterator[tuple[Worker, int]]:
    async with started(name, command, SERVER_CORE) as server:
        yield server, int((await server.reply())["port"])


def server_of(name: str, command: Sequence[str]) -> StartServer:
    """Return a function that starts a server by a command."""
    return partial(_server, name, command)


def _python_server(name: str, module: str, *arguments: str) -> StartServer:
    return partial(_server, name, [sys.executable, "-m", f"benchmarks.{module}", *arguments])


#: One bare `send` for each delivery.
floor = server_of("floor", [str(programs.FLOOR)])

#: A route of trio_sse's own server.
native = _python_server("trio_sse", "servers.native")

#: The same with metrics and logs, and with one stream and publish in a hundred traced, too.
native_monitored = _python_server("trio_sse, monitored", "servers.native", "--monitoring")
native_traced = _python_server("trio_sse, traced", "servers.native", "--monitoring", "--tracing")

#: The same with metrics, logs and a console, also over HTTP/2 without TLS.
native_watched_http2 = _python_server("trio_sse", "servers.native", "--monitoring", "--console", "--http2")

#: A route of a Quart-Trio app, on trio_sse's own server and on `trio_sse.hypercorn`.
quart_on_ours = _python_server("Quart on ours", "servers.quart_app", "ours")
quart_on_hypercorn = _python_server("Quart on hypercorn", "servers.quart_app", "hypercorn")

#: A generator in a Quart-Trio app on hypercorn, without trio_sse.
quart_plain = _python_server("plain generator", "servers.quart_generator")


def native_secured(certificate: str, key: str) -> StartServer:
    """Return a function that starts trio_sse's own server with TLS."""
    return _python_server("trio_sse, TLS", "servers.native", "--tls", certificate, key)


@asynccontextmanager
async def load(
    port: int, connections: int = 0, *options: str, path: str = "/updates", core: int | None = LOAD_CORE
) -> AsyncIterator[Worker]:
    """Run a load with `connections` open streams. `native/load.c` documents the options and the path."""
    command = [str(programs.LOAD), *options, "127.0.0.1", str(port), path]
    async with started("load", command, core) as worker:
        if connections:
            await connect(worker, connections)
        yield worker


async def connect(worker: Worker, connections: int) -> None:
    """Open `connections` more streams."""
    before = (await worker.ask("report"))["connected"]
    after = (await worker.ask(f"connect {connections}"))["connected"]
    if after - before != connections:
        raise BenchmarkError(f"{after - before:.0f} streams opened instead of {connections}")
