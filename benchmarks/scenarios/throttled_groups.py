"""Clients that share one topic, have one of their own, and a batch: `python -m benchmarks.throttled_groups`.

Each of them is a group of its own. A delivery must cost the same among many as among a tenth of them: what
they have in common is encoded once.
"""

from __future__ import annotations

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.turns import FEWER, among_fewer_and_most

EVENTS = 600

TARGET_RATIO = 1.3

UNIT = "us of server CPU per delivery"


async def measure(settings: Settings) -> list[Measurement]:
    return await among_fewer_and_most(settings, _turn, "groups", UNIT, TARGET_RATIO)


async def _turn(connections: int) -> float:
    async with (
        subjects.native() as (server, port),
        subjects.load(port, connections, "--share", "1", path="/throttled/{n}") as load,
    ):
        for events in (1, EVENTS):
            measured = await broadcasts.burst(server, load, connections, events)
        return measured.microseconds


BENCHMARK = Benchmark("throttled groups", 4000, measure, fewest=FEWER)

if __name__ == "__main__":
    main([BENCHMARK])
