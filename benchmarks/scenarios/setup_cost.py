"""What it costs to accept a connection, up to the response head: `python -m benchmarks.setup_cost`."""

from __future__ import annotations

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.turns import in_turns

TARGET_MICROSECONDS = 120.0


async def measure(settings: Settings) -> list[Measurement]:
    server, floor = await in_turns(
        settings.rounds,
        lambda: connect_cost(subjects.native, settings.connections),
        lambda: connect_cost(subjects.floor, settings.connections),
    )
    unit = "us of server CPU per connection"
    ours = Measurement("set-up", unit, server, TARGET_MICROSECONDS)
    floors = Measurement("set-up, floor", unit, floor)
    return [ours, floors, ratio(ours, floors, "the floor")]


async def connect_cost(start_server: subjects.StartServer, connections: int) -> float:
    """Return the server's CPU time per connection, in microseconds."""
    async with start_server() as (server, port), subjects.load(port, connections=1) as load:
        before = await broadcasts.cpu_seconds(server)
        await subjects.connect(load, connections)
        return (await broadcasts.cpu_seconds(server) - before) / connections * 1e6


BENCHMARK = Benchmark("set-up cost", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
