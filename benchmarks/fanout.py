"""What a delivery costs the server, beside the floor in the same round: `python -m benchmarks.fanout`."""

from __future__ import annotations

from dataclasses import dataclass

from . import _subjects
from ._command_line import Benchmark, Settings, main
from ._figures import Figure
from ._subjects import Broadcast

BURST_EVENTS = 30
BURSTS = 5
STEADY_EVENTS = 20
STEADY_MILLISECONDS = 100

TARGET_BURST_MICROSECONDS = 2.5
TARGET_BURST_RATIO = 0.4
TARGET_STEADY_RATIO = 1.35


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one server did in one round."""

    bursts: tuple[Broadcast, ...]
    steady: Broadcast

    @property
    def burst_microseconds(self) -> float:
        cpu_seconds = sum(burst.cpu_seconds for burst in self.bursts)
        return cpu_seconds / sum(burst.deliveries for burst in self.bursts) * 1e6

    @property
    def load_share(self) -> float:
        return max(broadcast.load_share for broadcast in (*self.bursts, self.steady))


async def measure(settings: Settings) -> list[Figure]:
    subject: list[_Turn] = []
    floor: list[_Turn] = []
    for _ in range(settings.rounds):
        # One right after the other, each in a fresh process: what slows the machine down slows both.
        subject.append(await _turn(_subjects.native, settings.connections))
        floor.append(await _turn(_subjects.floor, settings.connections))
    pairs = list(zip(subject, floor, strict=True))
    unit = "us of server CPU per delivery"
    return [
        Figure("burst", unit, tuple(t.burst_microseconds for t in subject), TARGET_BURST_MICROSECONDS),
        Figure("burst, floor", unit, tuple(t.burst_microseconds for t in floor)),
        Figure(
            "burst, ratio",
            "of the floor",
            tuple(t.burst_microseconds / f.burst_microseconds for t, f in pairs),
            TARGET_BURST_RATIO,
        ),
        Figure("steady", unit, tuple(t.steady.microseconds for t in subject)),
        Figure("steady, floor", unit, tuple(t.steady.microseconds for t in floor)),
        Figure(
            "steady, ratio",
            "of the floor",
            tuple(t.steady.microseconds / f.steady.microseconds for t, f in pairs),
            TARGET_STEADY_RATIO,
        ),
        Figure("size, steady", "bytes per delivery", tuple(t.steady.wire_size for t in subject)),
        Figure("size, steady, floor", "bytes per delivery", tuple(t.steady.wire_size for t in floor)),
        Figure("busiest load", "of a core", tuple(t.load_share for t in (*subject, *floor))),
    ]


async def _turn(start_server: _subjects.StartServer, connections: int) -> _Turn:
    async with start_server() as (server, port), _subjects.load(port, connections) as load:
        await _subjects.burst(server, load, connections, BURST_EVENTS)  # warms up
        bursts = [await _subjects.burst(server, load, connections, BURST_EVENTS) for _ in range(BURSTS)]
        await _subjects.steady(server, load, connections, 3, STEADY_MILLISECONDS)
        steady = await _subjects.steady(server, load, connections, STEADY_EVENTS, STEADY_MILLISECONDS)
    return _Turn(tuple(bursts), steady)


BENCHMARK = Benchmark("fan-out", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
