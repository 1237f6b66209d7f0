"""How long a broadcast delays other tasks: `python -m benchmarks.stall`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.worker import Reply

TARGET_MILLISECONDS = 10.0


#: Returns the load's options for a server at a port.
LoadOptions = Callable[[int], Sequence[str]]


@dataclass
class Stalls:
    """What a probe has found in each round."""

    idle: list[Reply] = field(default_factory=list)
    burst: list[Reply] = field(default_factory=list)
    single: list[Reply] = field(default_factory=list)

    async def add_round(
        self, start_server: subjects.StartServer, streams: int, load_options: LoadOptions = lambda port: ()
    ) -> None:
        """Probe a server while it sends to many streams."""
        async with start_server() as (server, port), subjects.load(port, 0, *load_options(port)) as load:
            await subjects.connect(load, streams)
            await broadcasts.burst(server, load, streams, 30)  # warms up

            await server.ask("probe start")
            await trio.sleep(0.5)
            self.idle.append(await server.ask("probe stop"))

            await server.ask("probe start")
            await broadcasts.burst(server, load, streams, 30)
            self.burst.append(await server.ask("probe stop"))

            await server.ask("probe start")
            # Each event is sent to all before the next one.
            await broadcasts.steady(server, load, streams, 10, 250)
            self.single.append(await server.ask("probe stop"))

    def measurements(self) -> list[Measurement]:
        """Return the longest waits of all rounds."""
        return [
            *_measurements("nothing to do", self.idle, None),
            *_measurements("burst of 30", self.burst, TARGET_MILLISECONDS),
            *_measurements("single events", self.single, TARGET_MILLISECONDS),
        ]


async def measure(settings: Settings) -> list[Measurement]:
    stalls = Stalls()
    for _ in range(settings.rounds):
        await stalls.add_round(subjects.native, settings.connections)
    return stalls.measurements()


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
