"""What a delivery costs the server, and the floor in the same round: `python -m benchmarks.fanout`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.broadcasts import Broadcast
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.worker import Worker

BURST_EVENTS = 30
BURSTS = 5
STEADY_EVENTS = 20
STEADY_MILLISECONDS = 100

#: Events before the ones that count. Linux acknowledges the first 16 segments of a connection at once
#: (TCP_MAX_QUICKACKS) and later ones with a delay. Over loopback, the sender pays for immediate
#: acknowledgements. A sender that joined more events in the bursts has used fewer segments, so it pays
#: longer.
STEADY_WARM_UP_EVENTS = 20

TARGET_BURST_MICROSECONDS = 1.5
TARGET_BURST_RATIO = 0.4
TARGET_STEADY_RATIO = 1.2
TARGET_MONITORING_RATIO = 1.02

UNIT = "us of server CPU per delivery"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure in a turn: the events to warm up with, and the bursts that count."""

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


async def measure(settings: Settings) -> list[Measurement]:
    subject: list[Turn] = []
    floor: list[Turn] = []
    for _ in range(settings.rounds):
        # One right after the other, each in a new process, so that a slow machine slows both.
        subject.append(await _turn(subjects.native, settings.connections))
        floor.append(await _turn(subjects.floor, settings.connections))
    burst = burst_measurement("burst", subject, TARGET_BURST_MICROSECONDS)
    burst_floor = burst_measurement("burst, floor", floor)
    steady, steady_floor = steady_measurement("steady", subject), steady_measurement("steady, floor", floor)
    return [
        burst,
        burst_floor,
        ratio(burst, burst_floor, "the floor", TARGET_BURST_RATIO),
        steady,
        steady_floor,
        ratio(steady, steady_floor, "the floor", TARGET_STEADY_RATIO),
        Measurement("size, steady", "bytes per delivery", tuple(t.steady.wire_size for t in subject)),
        Measurement("size, steady, floor", "bytes per delivery", tuple(t.steady.wire_size for t in floor)),
        busiest_load([*subject, *floor]),
    ]


async def compare_monitoring(settings: Settings) -> list[Measurement]:
    """Compare with metrics and logs, and with traces, too, in the same rounds."""
    plain: list[Turn] = []
    monitored: list[Turn] = []
    traced: list[Turn] = []
    for _ in range(settings.rounds):
        for turns, start in (
            (plain, subjects.native),
            (monitored, subjects.native_monitored),
            (traced, subjects.native_traced),
        ):
            turns.append(await _turn(start, settings.connections))
    found: list[Measurement] = []
    for name, measured in (("burst", burst_measurement), ("steady", steady_measurement)):
        of_plain = measured(name, plain)
        found.append(of_plain)
        for what, turns in (("metrics and logs", monitored), ("and traces", traced)):
            with_it = measured(f"{name}, {what}", turns)
            found += [with_it, ratio(with_it, of_plain, "neither", TARGET_MONITORING_RATIO)]
    return found


def burst_measurement(name: str, turns: Sequence[Turn], target: float | None = None) -> Measurement:
    return Measurement(name, UNIT, tuple(turn.burst_microseconds for turn in turns), target)


def steady_measurement(name: str, turns: Sequence[Turn]) -> Measurement:
    return Measurement(name, UNIT, tuple(turn.steady.microseconds for turn in turns))


def busiest_load(turns: Sequence[Turn]) -> Measurement:
    return Measurement("busiest load", "of a core", tuple(turn.load_share for turn in turns))


async def _turn(start_server: subjects.StartServer, connections: int) -> Turn:
    async with start_server() as (server, port), subjects.load(port, connections) as load:
        return await deliver(server, load, connections, FULL)


async def deliver(
    server: Worker, load: Worker, connections: int, effort: Effort, *, has_ids: bool = True
) -> Turn:
    """Send bursts and single events to open connections."""

    async def burst(events: int) -> Broadcast:
        return await broadcasts.burst(server, load, connections, events, has_ids=has_ids)

    async def steady(events: int) -> Broadcast:
        return await broadcasts.steady(
            server, load, connections, events, STEADY_MILLISECONDS, has_ids=has_ids
        )

    await burst(effort.warm_up_events)
    bursts = [await burst(BURST_EVENTS) for _ in range(effort.bursts)]
    await steady(STEADY_WARM_UP_EVENTS)
    return Turn(tuple(bursts), await steady(STEADY_EVENTS))


BENCHMARK = Benchmark("fan-out", 4000, measure, compare_monitoring=compare_monitoring)

if __name__ == "__main__":
    main([BENCHMARK])
