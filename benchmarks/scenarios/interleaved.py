"""Topics that take turns, to subscribers of all of them: `python -m benchmarks.interleaved`.

What one subscriber receives from a batch is joined to one write, so four topics must cost what one does. The
last case is the worst one: each subscriber has four of 16 topics, and no two have the same, so none can share
a write.
"""

from __future__ import annotations

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.turns import in_turns
from benchmarks.harness.worker import PATIENCE

EVENTS = 2000
TOPICS = 4
DIFFERENT_TOPICS = 16

TARGET_RATIO = 1.2

SLOWEST = 100_000  # deliveries a second, on a busy machine

UNIT = "us of server CPU per delivery"


async def measure(settings: Settings) -> list[Measurement]:
    one, four, different = await in_turns(
        settings.rounds,
        lambda: _turn(settings, "/first/1", 1),
        lambda: _turn(settings, f"/first/{TOPICS}", TOPICS),
        lambda: _turn(settings, "/different/{n}", DIFFERENT_TOPICS),
    )
    of_one, of_four = Measurement("one topic", UNIT, one), Measurement("four topics", UNIT, four)
    of_different = Measurement("different sets of four", UNIT, different)
    return [
        of_one,
        of_four,
        ratio(of_four, of_one, "one topic", TARGET_RATIO),
        of_different,
        ratio(of_different, of_one, "one topic"),
    ]


async def _turn(settings: Settings, path: str, topics: int) -> float:
    connections = settings.connections
    received = min(topics, TOPICS)  # topics of one stream
    patience = PATIENCE + connections * settings.events / SLOWEST
    options = ("--share", "1", "--patience", f"{patience:.0f}")
    async with (
        subjects.native() as (server, port),
        subjects.load(port, connections, *options, path=path) as load,
    ):
        server.patience = load.patience = patience + 30
        for events in (TOPICS, max(settings.events // TOPICS, 1) * TOPICS):  # a first one warms up
            rounds = events // received
            measured = await broadcasts.broadcast(
                server, load, connections, f"topics {topics} {rounds}", events, has_ids=False
            )
        return measured.microseconds


BENCHMARK = Benchmark("interleaved topics", 1000, measure, events=EVENTS)

if __name__ == "__main__":
    main([BENCHMARK])
