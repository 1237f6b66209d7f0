"""The workers by name, and what one does with them: open streams, broadcast, count the cost.

Servers and the floor obey the same commands, so one function measures both, and the load checks both alike:
a broadcast of which a single event was lost, doubled or out of order is an error and no figure.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.harness.worker import HERE, LOAD_CORE, SERVER_CORE, BenchmarkError, Worker, started

BUILD = HERE / "build"

#: Starts a server, and gives it and its port.
StartServer = Callable[[], AbstractAsyncContextManager[tuple[Worker, int]]]


@asynccontextmanager
async def _server(name: str, command: Sequence[str]) -> AsyncIterator[tuple[Worker, int]]:
    async with started(name, command, SERVER_CORE) as server:
        yield server, int((await server.reply())["port"])


def server_of(name: str, command: Sequence[str]) -> StartServer:
    """Give what starts a server by a command of its own."""
    return partial(_server, name, command)


def _python_server(name: str, module: str, *arguments: str) -> StartServer:
    return partial(_server, name, [sys.executable, "-m", f"benchmarks.{module}", *arguments])


#: One bare `send` for each delivery.
floor: StartServer = partial(_server, "floor", [str(BUILD / "floor")])

#: A route of trio_sse's own server.
native = _python_server("trio_sse", "servers.native")

#: A route of a Quart-Trio app, on trio_sse's own server and on `trio_sse.hypercorn`.
quart_on_ours = _python_server("Quart on ours", "servers.quart_app", "ours")
quart_on_hypercorn = _python_server("Quart on hypercorn", "servers.quart_app", "hypercorn")

#: A generator in a Quart-Trio app on hypercorn, without anything of trio_sse.
quart_plain = _python_server("plain generator", "servers.quart_generator")


def native_secured(certificate: str, key: str) -> StartServer:
    """Give the route of trio_sse's own server, under TLS."""
    return _python_server("trio_sse, TLS", "servers.native", "--tls", certificate, key)


@asynccontextmanager
async def load(
    port: int, connections: int = 0, *options: str, path: str = "/updates", core: int | None = LOAD_CORE
) -> AsyncIterator[Worker]:
    """Run a load, with that many open streams; its options and path are as `load.c` says."""
    command = [str(BUILD / "load"), *options, "127.0.0.1", str(port), path]
    async with started("load", command, core) as worker:
        if connections:
            await connect(worker, connections)
        yield worker


async def connect(worker: Worker, connections: int) -> None:
    """Open that many more streams."""
    before = (await worker.ask("report"))["connected"]
    after = (await worker.ask(f"connect {connections}"))["connected"]
    if after - before != connections:
        raise BenchmarkError(f"{after - before:.0f} streams opened instead of {connections}")


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What it cost to bring some events to all connections."""

    deliveries: int
    cpu_seconds: float
    received_bytes: float
    seconds: float
    """From the first event's arrival to the last one's."""
    load_share: float
    """The share of a core that the load took; near 1, the load may be what held things up."""
    latencies: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """From publish to receipt in milliseconds, where events were stamped: median, 99 %, longest."""
    returns: float = 0
    """Streams that came back after they were cut; and the seconds from the first cut to the last return."""
    returned_seconds: float = 0

    @property
    def microseconds(self) -> float:
        """The server's CPU time for each delivery."""
        return self.cpu_seconds / self.deliveries * 1e6

    @property
    def wire_size(self) -> float:
        """The bytes on the wire of each delivery."""
        return self.received_bytes / self.deliveries


async def broadcast(
    server: Worker, load: Worker, connections: int, command: str, events: int, *, has_ids: bool = True
) -> Broadcast:
    """Let the server send `events` to each connection, and wait until every one has arrived.

    Without `has_ids`, the ids of one connection aren't in one row, and are not looked at.
    """
    deliveries = connections * events
    await load.ask(f"expect {deliveries}")
    before = await cpu_seconds(server)
    await server.ask(command)
    received = await load.reply()
    used = await cpu_seconds(server) - before
    exact = {"events": deliveries, "fewest_per_stream": events, "most_per_stream": events}
    if has_ids:
        exact |= {"ids": deliveries, "id_gaps": 0}
    for name, value in exact.items():
        if received[name] != value:
            raise BenchmarkError(f"{server.name}, {command}: {name} is {received[name]:.0f}, not {value}")
    latencies = [received[f"latency_{name}"] / 1000 for name in ("p50", "p99", "max")]
    return Broadcast(
        deliveries,
        used,
        received["bytes"],
        received["seconds"],
        received["cpu_share"],
        (latencies[0], latencies[1], latencies[2]),
        received["returns"],
        received["returned_seconds"],
    )


async def burst(server: Worker, load: Worker, connections: int, events: int) -> Broadcast:
    """Publish events back to back."""
    return await broadcast(server, load, connections, f"burst {events}", events)


async def steady(server: Worker, load: Worker, connections: int, events: int, milliseconds: int) -> Broadcast:
    """Publish one event each so many milliseconds."""
    return await broadcast(server, load, connections, f"steady {events} {milliseconds}", events)


async def stamped(
    server: Worker, load: Worker, connections: int, events: int, milliseconds: int
) -> Broadcast:
    """Do what `steady` does, with events that tell when they were published."""
    return await broadcast(server, load, connections, f"stamped {events} {milliseconds}", events)


async def own(server: Worker, load: Worker, connections: int, events: int) -> Broadcast:
    """Have each handler send so many events of its own."""
    return await broadcast(server, load, connections, f"own {events}", events)


async def cpu_seconds(server: Worker) -> float:
    """Give the CPU time that the server has used so far, its own and the kernel's on its behalf."""
    cpu = await server.ask("cpu")
    return cpu["user_seconds"] + cpu["system_seconds"]
