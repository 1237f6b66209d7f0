"""What clients that never read cost the others: `python -m benchmarks.slow_readers`.

One client in ten reads nothing after the response's head. First their buffers are filled. Then cost, latency
and memory are compared with those of a server that has only the clients that read.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.broadcasts import Broadcast
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio

EVENTS = 30
MILLISECONDS = 100

#: Events of 190 bytes each: more than the 64 KiB that the kernel buffers for a client that does not read.
FILLING = 1500


@dataclass(frozen=True, slots=True)
class _Turn:
    delivered: Broadcast
    pss_kib: float


async def measure(settings: Settings) -> list[Measurement]:
    unread = max(1, settings.connections // 10)
    readers = settings.connections - unread
    without: list[_Turn] = []
    among: list[_Turn] = []
    for _ in range(settings.rounds):
        without.append(await _turn(readers, 0))
        among.append(await _turn(readers, unread))
    compared = (("all read", without), ("10 % do not", among))
    costs = [_costs(f"cost, {name}", turns) for name, turns in compared]
    latencies = [_latencies(f"latency, 99 %, {name}", turns) for name, turns in compared]
    held = tuple((a.pss_kib - w.pss_kib) / unread for a, w in zip(among, without, strict=True))
    return [
        *costs,
        ratio(costs[1], costs[0], "the others"),
        *latencies,
        ratio(latencies[1], latencies[0], "the others"),
        Measurement("per client that does not read", "KiB of the server", held),
    ]


def _costs(name: str, turns: list[_Turn]) -> Measurement:
    return Measurement(name, "us of server CPU per delivery", tuple(t.delivered.microseconds for t in turns))


def _latencies(name: str, turns: list[_Turn]) -> Measurement:
    return Measurement(name, "ms", tuple(t.delivered.latencies[1] for t in turns))


async def _turn(readers: int, unread: int) -> _Turn:
    async with (
        subjects.native() as (server, port),
        subjects.load(port, readers) as load,
        subjects.load(port) as other,
    ):
        if unread:
            await other.ask(f"unread {unread}")
        await broadcasts.burst(server, load, readers, FILLING)
        await trio.sleep(1)
        delivered = await broadcasts.stamped(server, load, readers, EVENTS, MILLISECONDS)
        return _Turn(delivered, (await server.ask("memory"))["pss_bytes"] / 1024)


BENCHMARK = Benchmark("slow readers", 4000, measure, fewest=2)

if __name__ == "__main__":
    main([BENCHMARK])
