"""How long a broadcast keeps other tasks waiting: `python -m benchmarks.stall`."""

from __future__ import annotations

import trio

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure
from benchmarks.harness.worker import Reply

TARGET_MILLISECONDS = 10.0


async def measure(settings: Settings) -> list[Figure]:
    connections = settings.connections
    idle: list[Reply] = []
    burst: list[Reply] = []
    single: list[Reply] = []
    for _ in range(settings.rounds):
        async with subjects.native() as (server, port), subjects.load(port, connections) as load:
            await subjects.burst(server, load, connections, 30)  # warms up

            await server.ask("probe start")
            await trio.sleep(0.5)
            idle.append(await server.ask("probe stop"))

            await server.ask("probe start")
            await subjects.burst(server, load, connections, 30)
            burst.append(await server.ask("probe stop"))

            await server.ask("probe start")
            # Far enough apart that each has gone out before the next.
            await subjects.steady(server, load, connections, 10, 250)
            single.append(await server.ask("probe stop"))
    return [
        *_figures("nothing to do", idle, None),
        *_figures("burst of 30", burst, TARGET_MILLISECONDS),
        *_figures("single events", single, TARGET_MILLISECONDS),
    ]


def _figures(name: str, replies: list[Reply], target: float | None) -> list[Figure]:
    def milliseconds(key: str) -> tuple[float, ...]:
        return tuple(reply[key] * 1000 for reply in replies)

    return [
        Figure(f"{name}: longest wait", "ms", milliseconds("longest_wait_seconds"), target),
        Figure(f"{name}: same, in CPU time", "ms", milliseconds("longest_cpu_seconds")),
        Figure(f"{name}: longest garbage collection", "ms", milliseconds("longest_collection_seconds")),
    ]


BENCHMARK = Benchmark("stall", 10_000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
