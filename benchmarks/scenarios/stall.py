"""How long a broadcast delays other tasks: `python -m benchmarks.stall`."""

from __future__ import annotations

import trio

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.worker import Reply

TARGET_MILLISECONDS = 10.0


async def measure(settings: Settings) -> list[Measurement]:
    connections = settings.connections
    idle: list[Reply] = []
    burst: list[Reply] = []
    single: list[Reply] = []
    for _ in range(settings.rounds):
        async with subjects.native() as (server, port), subjects.load(port, connections) as load:
            await broadcasts.burst(server, load, connections, 30)  # warms up

            await server.ask("probe start")
            await trio.sleep(0.5)
            idle.append(await server.ask("probe stop"))

            await server.ask("probe start")
            await broadcasts.burst(server, load, connections, 30)
            burst.append(await server.ask("probe stop"))

            await server.ask("probe start")
            # Each event is sent to all before the next one.
            await broadcasts.steady(server, load, connections, 10, 250)
            single.append(await server.ask("probe stop"))
    return [
        *_measurements("nothing to do", idle, None),
        *_measurements("burst of 30", burst, TARGET_MILLISECONDS),
        *_measurements("single events", single, TARGET_MILLISECONDS),
    ]


def _measurements(name: str, replies: list[Reply], target: float | None) -> list[Measurement]:
    def milliseconds(key: str) -> tuple[float, ...]:
        return tuple(reply[key] * 1000 for reply in replies)

    return [
        Measurement(f"{name}: longest wait", "ms", milliseconds("longest_wait_seconds"), target),
        Measurement(f"{name}: same, in CPU time", "ms", milliseconds("longest_cpu_seconds")),
        Measurement(f"{name}: longest garbage collection", "ms", milliseconds("longest_collection_seconds")),
    ]


BENCHMARK = Benchmark("stall", 10_000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
