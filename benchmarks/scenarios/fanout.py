"""What a delivery costs the server, beside the floor in the same round: `python -m benchmarks.fanout`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure, ratio
from benchmarks.harness.subjects import Broadcast
from benchmarks.harness.worker import Worker

BURST_EVENTS = 30
BURSTS = 5
STEADY_EVENTS = 20
STEADY_MILLISECONDS = 100

#: Events that don't count yet. Linux acknowledges the first 16 segments of a connection at once
#: (TCP_MAX_QUICKACKS), later ones only after a while. Over loopback it is the sender who pays for that, for
#: the longer the more it joined in the bursts before.
STEADY_WARM_UP_EVENTS = 20

TARGET_BURST_MICROSECONDS = 1.5
TARGET_BURST_RATIO = 0.4
TARGET_STEADY_RATIO = 1.2

UNIT = "us of server CPU per delivery"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a turn takes: events to warm up with, and bursts that count."""

    warm_up_events: int
    bursts: int


FULL = Effort(BURST_EVENTS, BURSTS)


@dataclass(frozen=True, slots=True)
class Turn:
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
    subject: list[Turn] = []
    floor: list[Turn] = []
    for _ in range(settings.rounds):
        # One right after the other, each in a fresh process: what slows the machine down slows both.
        subject.append(await _turn(subjects.native, settings.connections))
        floor.append(await _turn(subjects.floor, settings.connections))
    burst = burst_figure("burst", subject, TARGET_BURST_MICROSECONDS)
    burst_floor = burst_figure("burst, floor", floor)
    steady, steady_floor = steady_figure("steady", subject), steady_figure("steady, floor", floor)
    return [
        burst,
        burst_floor,
        ratio(burst, burst_floor, "floor", TARGET_BURST_RATIO),
        steady,
        steady_floor,
        ratio(steady, steady_floor, "floor", TARGET_STEADY_RATIO),
        Figure("size, steady", "bytes per delivery", tuple(t.steady.wire_size for t in subject)),
        Figure("size, steady, floor", "bytes per delivery", tuple(t.steady.wire_size for t in floor)),
        busiest_load([*subject, *floor]),
    ]


def burst_figure(name: str, turns: Sequence[Turn], target: float | None = None) -> Figure:
    return Figure(name, UNIT, tuple(turn.burst_microseconds for turn in turns), target)


def steady_figure(name: str, turns: Sequence[Turn]) -> Figure:
    return Figure(name, UNIT, tuple(turn.steady.microseconds for turn in turns))


def busiest_load(turns: Sequence[Turn]) -> Figure:
    return Figure("busiest load", "of a core", tuple(turn.load_share for turn in turns))


async def _turn(start_server: subjects.StartServer, connections: int) -> Turn:
    async with start_server() as (server, port), subjects.load(port, connections) as load:
        return await deliver(server, load, connections, FULL)


async def deliver(server: Worker, load: Worker, connections: int, effort: Effort) -> Turn:
    """Bring bursts and single events to connections that are open."""
    await subjects.burst(server, load, connections, effort.warm_up_events)
    bursts = [await subjects.burst(server, load, connections, BURST_EVENTS) for _ in range(effort.bursts)]
    await subjects.steady(server, load, connections, STEADY_WARM_UP_EVENTS, STEADY_MILLISECONDS)
    steady = await subjects.steady(server, load, connections, STEADY_EVENTS, STEADY_MILLISECONDS)
    return Turn(tuple(bursts), steady)


BENCHMARK = Benchmark("fan-out", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
