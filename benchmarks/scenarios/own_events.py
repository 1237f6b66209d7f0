"""Handlers that send their own events, such as a progress bar: `python -m benchmarks.own_events`.

Nothing is shared: each event is encoded for one client. Some handlers send 30 events in a row, as a model
sends tokens. Others send one at a time, and each event wakes its task. The Python peers of
`benchmarks.compare` that are installed are measured next to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.worker import Worker
from benchmarks.scenarios import compare

EVENTS = 30
TIMES = 20

TARGET_RATIO = 1 / 3

UNIT = "us of server CPU per delivery"

OURS = {
    "native route": subjects.native,
    "Quart on ours": subjects.quart_on_ours,
    "Quart on hypercorn": subjects.quart_on_hypercorn,
}
#: Sends events to all connections.
Send = Callable[[Worker, Worker, int, int], Awaitable[broadcasts.Broadcast]]

PEERS = {"plain generator": subjects.quart_plain}


async def measure(settings: Settings) -> list[Measurement]:
    await compare.install(compare.PYTHON_TARGET)
    peers = PEERS | {peer.name: peer.start for peer in compare.PYTHON_PEERS if peer.is_installed}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in (*OURS, *peers)}
    for _ in range(settings.rounds):
        for name, start_server in {**OURS, **peers}.items():
            measured[name].append(await _turn(start_server, settings.connections, broadcasts.own))
    found = []
    for index, how in enumerate(("in one go", "one by one")):
        measurements = {
            name: Measurement(f"{how}, {name}", UNIT, tuple(turn[index] for turn in turns))
            for name, turns in measured.items()
        }
        native = measurements["native route"]
        found += [
            *measurements.values(),
            *(ratio(native, measurements[peer], peer, TARGET_RATIO) for peer in peers),
        ]
    return found


async def measure_with_floor(settings: Settings) -> list[Measurement]:
    """Measure the native route and the floor only. The floor sends the same bytes as a broadcast."""
    native: list[tuple[float, float]] = []
    floor: list[tuple[float, float]] = []
    for _ in range(settings.rounds):
        native.append(await _turn(subjects.native, settings.connections, broadcasts.own))
        floor.append(await _turn(subjects.floor, settings.connections, broadcasts.burst))
    found = []
    for index, how in enumerate(("in one go", "one by one")):
        ours = Measurement(f"own events {how}", UNIT, tuple(turn[index] for turn in native))
        floors = Measurement(f"own events {how}, floor", UNIT, tuple(turn[index] for turn in floor))
        found += [ours, floors, ratio(ours, floors, "the floor")]
    return found


async def _turn(start_server: subjects.StartServer, connections: int, send: Send) -> tuple[float, float]:
    async with start_server() as (server, port), subjects.load(port, connections, path="/own") as load:
        await send(server, load, connections, 3)
        in_one_go = (await send(server, load, connections, EVENTS)).microseconds
        one_by_one = [(await send(server, load, connections, 1)).microseconds for _ in range(TIMES)]
    return in_one_go, sum(one_by_one) / TIMES


BENCHMARK = Benchmark("own events", 1000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
