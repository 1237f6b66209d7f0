"""Broadcasts: let a server send events to all connections, and measure what that costs.

Servers and the floor run the same commands, so one function measures both. The load checks each broadcast:
the benchmark fails if a single event is lost, repeated or out of order.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.harness.worker import BenchmarkError, Worker


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The cost of sending some events to all connections."""

    deliveries: int
    cpu_seconds: float
    received_bytes: float
    seconds: float
    """From the arrival of the first event to the arrival of the last."""
    load_share: float
    """The share of a core that the load took. Near 1, the load may be the bottleneck."""
    latencies: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """From publish to receipt in milliseconds, for stamped events: median, 99 %, longest."""
    reconnects: float = 0
    """How many streams reconnected."""
    reconnect_seconds: float = 0
    """From the first disconnect to the last reconnect."""

    @property
    def microseconds(self) -> float:
        """The server's CPU time per delivery."""
        return self.cpu_seconds / self.deliveries * 1e6

    @property
    def wire_size(self) -> float:
        """Bytes on the wire per delivery."""
        return self.received_bytes / self.deliveries


async def broadcast(
    server: Worker, load: Worker, connections: int, command: str, events: int, *, has_ids: bool = True
) -> Broadcast:
    """Let the server send `events` to each connection, and wait until all have arrived.

    Without `has_ids`, the ids on one connection are not consecutive, and are not checked.
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
        received["reconnects"],
        received["reconnect_seconds"],
    )


async def burst(
    server: Worker, load: Worker, connections: int, events: int, *, has_ids: bool = True
) -> Broadcast:
    """Publish events back to back."""
    return await broadcast(server, load, connections, f"burst {events}", events, has_ids=has_ids)


async def steady(
    server: Worker, load: Worker, connections: int, events: int, milliseconds: int, *, has_ids: bool = True
) -> Broadcast:
    """Publish one event each `milliseconds`."""
    command = f"steady {events} {milliseconds}"
    return await broadcast(server, load, connections, command, events, has_ids=has_ids)


async def stamped(
    server: Worker, load: Worker, connections: int, events: int, milliseconds: int
) -> Broadcast:
    """Do the same as `steady`, with events that contain the time of their publication."""
    return await broadcast(server, load, connections, f"stamped {events} {milliseconds}", events)


async def own(server: Worker, load: Worker, connections: int, events: int) -> Broadcast:
    """Let each handler send `events` to its client."""
    return await broadcast(server, load, connections, f"own {events}", events)


async def cpu_seconds(server: Worker) -> float:
    """Return the CPU time that the server has used so far, in user and system mode."""
    cpu = await server.ask("cpu")
    return cpu["user_seconds"] + cpu["system_seconds"]
