"""What a stream of a Quart-Trio app costs, on our server and on hypercorn: `python -m benchmarks.quart`.

A route of our own server is measured next to the first, and the plain generator from Quart's documentation,
on hypercorn alone, next to the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.scenarios import fanout, idle_memory
from benchmarks.scenarios.fanout import FULL, Effort

TARGET_IDLE_KIB = 16.0
TARGET_RATIO_OF_NATIVE = 1.3
# On hypercorn, each write is a `send`. Events of a burst share one; those of a steady feed do not, and have a
# task for each.
TARGET_RATIO_OF_PLAIN = (1.0, 2.0)

# What is sent through hypercorn takes half a minute where our server takes a second. It gets fewer bursts.
BRIEF = Effort(warm_up_events=3, bursts=1)

# Hypercorn can send 10 events a second to this many clients and use half a core. With 4,000 it falls behind.
KEPT_UP_WITH = 200


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one server did in one round."""

    idle_kib: float
    deliveries: fanout.Turn


async def measure(settings: Settings) -> list[Measurement]:
    connections, few = settings.connections, min(KEPT_UP_WITH, settings.connections)
    native: list[_Turn] = []
    ours: list[_Turn] = []
    hypercorn: list[_Turn] = []
    plain: list[_Turn] = []
    hypercorn_few: list[_Turn] = []
    plain_few: list[_Turn] = []
    for _ in range(settings.rounds):
        native.append(await _turn(subjects.native, connections, FULL))
        ours.append(await _turn(subjects.quart_on_ours, connections, FULL))
        hypercorn.append(await _turn(subjects.quart_on_hypercorn, connections, BRIEF))
        plain.append(await _turn(subjects.quart_plain, connections, BRIEF))
        hypercorn_few.append(await _turn(subjects.quart_on_hypercorn, few, BRIEF))
        plain_few.append(await _turn(subjects.quart_plain, few, BRIEF))
    return [
        _idle("native route", native),
        _idle("Quart on ours", ours, TARGET_IDLE_KIB),
        _idle("Quart on hypercorn", hypercorn),
        _idle("plain generator", plain),
        *_compared("", ("Quart on ours", ours), ("native route", native), (TARGET_RATIO_OF_NATIVE,) * 2),
        *_compared("", ("Quart on hypercorn", hypercorn), ("plain generator", plain), TARGET_RATIO_OF_PLAIN),
        *_compared(
            f"{few} connections: ",
            ("Quart on hypercorn", hypercorn_few),
            ("plain generator", plain_few),
            TARGET_RATIO_OF_PLAIN,
        ),
        _span("Quart on hypercorn", hypercorn),
        _span("plain generator", plain),
        _span(f"{few} connections: plain generator", plain_few),
        fanout.busiest_load([turn.deliveries for turn in (*native, *ours, *hypercorn, *plain)]),
    ]


async def _turn(start_server: subjects.StartServer, connections: int, effort: Effort) -> _Turn:
    async with start_server() as (server, port), subjects.load(port) as load:
        empty = await idle_memory.empty_memory(server, load)
        idle = await idle_memory.idle_memory(server, load, connections)
        deliveries = await fanout.deliver(server, load, connections, effort)
    return _Turn(idle.per_connection(empty, connections).pss, deliveries)


def _idle(name: str, turns: Sequence[_Turn], target: float | None = None) -> Measurement:
    return Measurement(
        f"idle, {name}", "KiB per connection (PSS)", tuple(turn.idle_kib for turn in turns), target
    )


def _compared(
    prefix: str,
    subject: tuple[str, Sequence[_Turn]],
    other: tuple[str, Sequence[_Turn]],
    targets: tuple[float, float],
) -> list[Measurement]:
    measurements = []
    phases = (("burst", fanout.burst_measurement), ("steady", fanout.steady_measurement))
    for (phase, measurement), target in zip(phases, targets, strict=True):
        ours, theirs = (
            measurement(f"{prefix}{phase}, {name}", [turn.deliveries for turn in turns])
            for name, turns in (subject, other)
        )
        measurements += [ours, theirs, ratio(ours, theirs, other[0], target)]
    return measurements


def _span(name: str, turns: Sequence[_Turn]) -> Measurement:
    """Return how long the steady events took to arrive. It shows whether the server kept up."""
    seconds = tuple(turn.deliveries.steady.seconds for turn in turns)
    return Measurement(f"{name}: steady, first to last arrival", "s", seconds)


BENCHMARK = Benchmark("Quart-Trio", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
