"""Many topics with two subscribers each, so that few can share a write: `python -m benchmarks.topics`."""

from __future__ import annotations

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.turns import in_turns

SUBSCRIBERS = 2
ROUNDS = 10

UNIT = "us of server CPU per delivery"


async def measure(settings: Settings) -> list[Measurement]:
    subject, floor = await in_turns(
        settings.rounds, lambda: _ours(settings.connections), lambda: _floor(settings.connections)
    )
    ours, floors = Measurement("topics", UNIT, subject), Measurement("topics, floor", UNIT, floor)
    return [ours, floors, ratio(ours, floors, "the floor")]


async def _ours(connections: int) -> float:
    path = "/topics/{n}"
    topics = -(-connections // SUBSCRIBERS)  # with an odd number, one topic has a single subscriber
    async with (
        subjects.native() as (server, port),
        subjects.load(port, connections, "--share", f"{SUBSCRIBERS}", path=path) as load,
    ):
        for rounds in (1, ROUNDS):
            command = f"topics {topics} {rounds}"
            measured = await broadcasts.broadcast(server, load, connections, command, rounds, has_ids=False)
        return measured.microseconds


async def _floor(connections: int) -> float:
    async with subjects.floor() as (server, port), subjects.load(port, connections) as load:
        for rounds in (1, ROUNDS):
            measured = await broadcasts.burst(server, load, connections, rounds)
        return measured.microseconds


BENCHMARK = Benchmark("topics", 10_000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
