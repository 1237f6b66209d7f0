"""What taking in a connection costs, up to the response head: `python -m benchmarks.setup_cost`."""

from __future__ import annotations

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure

TARGET_MICROSECONDS = 120.0


async def measure(settings: Settings) -> list[Figure]:
    server: list[float] = []
    floor: list[float] = []
    for _ in range(settings.rounds):
        server.append(await take_in(subjects.native, settings.connections))
        floor.append(await take_in(subjects.floor, settings.connections))
    unit = "us of server CPU per connection"
    return [
        Figure("set-up", unit, tuple(server), TARGET_MICROSECONDS),
        Figure("set-up of the floor", unit, tuple(floor)),
    ]


async def take_in(start_server: subjects.StartServer, connections: int) -> float:
    """Give the server's CPU time in microseconds for each of so many connections."""
    async with start_server() as (server, port), subjects.load(port, connections=1) as load:
        before = await subjects.cpu_seconds(server)
        await subjects.connect(load, connections)
        return (await subjects.cpu_seconds(server) - before) / connections * 1e6


BENCHMARK = Benchmark("set-up cost", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
