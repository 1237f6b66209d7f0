"""What the others feel of those who never read: `python -m benchmarks.slow_readers`.

One in ten reads nothing after the response's head. Their buffers are filled first; then cost, latency and
memory are compared with those of a server that has the same readers, and nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure, ratio
from benchmarks.harness.subjects import Broadcast

EVENTS = 30
MILLISECONDS = 100

#: Of 190 bytes each: more than the 64 KiB that the kernel holds for one who doesn't read.
FILLING = 1500


@dataclass(frozen=True, slots=True)
class _Turn:
    delivered: Broadcast
    pss_kib: float


async def measure(settings: Settings) -> list[Figure]:
    deaf = max(1, settings.connections // 10)
    readers = settings.connections - deaf
    without: list[_Turn] = []
    among: list[_Turn] = []
    for _ in range(settings.rounds):
        without.append(await _turn(readers, 0))
        among.append(await _turn(readers, deaf))
    compared = (("all read", without), ("10 % don't", among))
    costs = [_costs(f"cost, {name}", turns) for name, turns in compared]
    latencies = [_latencies(f"latency, 99 %, {name}", turns) for name, turns in compared]
    held = tuple((a.pss_kib - w.pss_kib) / deaf for a, w in zip(among, without, strict=True))
    return [
        *costs,
        ratio(costs[1], costs[0], "others"),
        *latencies,
        ratio(latencies[1], latencies[0], "others"),
        Figure("held for each who doesn't read", "KiB of the server", held),
    ]


def _costs(name: str, turns: list[_Turn]) -> Figure:
    return Figure(name, "us of server CPU per delivery", tuple(t.delivered.microseconds for t in turns))


def _latencies(name: str, turns: list[_Turn]) -> Figure:
    return Figure(name, "ms", tuple(t.delivered.latencies[1] for t in turns))


async def _turn(readers: int, deaf: int) -> _Turn:
    async with (
        subjects.native() as (server, port),
        subjects.load(port, readers) as load,
        subjects.load(port) as other,
    ):
        if deaf:
            await other.ask(f"deaf {deaf}")
        await subjects.burst(server, load, readers, FILLING)
        await trio.sleep(1)
        delivered = await subjects.stamped(server, load, readers, EVENTS, MILLISECONDS)
        return _Turn(delivered, (await server.ask("memory"))["pss_bytes"] / 1024)


BENCHMARK = Benchmark("slow readers", 4000, measure, fewest=2)

if __name__ == "__main__":
    main([BENCHMARK])
