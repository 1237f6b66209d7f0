"""Streams whose handlers send events of their own, as a progress bar does: `python -m benchmarks.own_events`.

Nothing is shared: each event is encoded for one client. There are handlers that send 30 in one go, as the
tokens of a model come, and such that send one at a time, of which each wakes its task. Beside it, each Python
peer of `benchmarks.compare` that is there.
"""

from __future__ import annotations

from benchmarks.harness import subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure, ratio
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
PEERS = {"plain generator": subjects.quart_plain}


async def measure(settings: Settings) -> list[Figure]:
    await compare.install(compare.PYTHON_TARGET)
    peers = PEERS | {peer.name: peer.start for peer in compare.PYTHON_PEERS if peer.is_there}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in (*OURS, *peers)}
    for _ in range(settings.rounds):
        for name, start_server in {**OURS, **peers}.items():
            measured[name].append(await _turn(start_server, settings.connections))
    found = []
    for index, how in enumerate(("in one go", "one by one")):
        figures = {
            name: Figure(f"{how}, {name}", UNIT, tuple(turn[index] for turn in turns))
            for name, turns in measured.items()
        }
        native = figures["native route"]
        found += [*figures.values(), *(ratio(native, figures[peer], peer, TARGET_RATIO) for peer in peers)]
    return found


async def _turn(start_server: subjects.StartServer, connections: int) -> tuple[float, float]:
    async with start_server() as (server, port), subjects.load(port, connections, path="/own") as load:
        await subjects.own(server, load, connections, 3)
        in_one_go = (await subjects.own(server, load, connections, EVENTS)).microseconds
        one_by_one = [(await subjects.own(server, load, connections, 1)).microseconds for _ in range(TIMES)]
    return in_one_go, sum(one_by_one) / TIMES


BENCHMARK = Benchmark("own events", 1000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
