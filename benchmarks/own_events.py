"""Streams whose handlers send events of their own, as a progress bar does: `python -m benchmarks.own_events`.

Nothing is shared: each event is encoded for one client, and goes out in a write of its own. Beside it, each
Python peer of `benchmarks.compare` that is there.
"""

from __future__ import annotations

from . import _subjects, compare
from ._command_line import Benchmark, Settings, main
from ._figures import Figure, ratio

EVENTS = 30

UNIT = "us of server CPU per delivery"

OURS = {
    "native route": _subjects.native,
    "Quart on ours": _subjects.quart_on_ours,
    "Quart on hypercorn": _subjects.quart_on_hypercorn,
}
PEERS = {"plain generator": _subjects.quart_plain}


async def measure(settings: Settings) -> list[Figure]:
    await compare.install()
    peers = PEERS | {peer.name: peer.start for peer in compare.PYTHON_PEERS if peer.is_there}
    measured: dict[str, list[float]] = {name: [] for name in (*OURS, *peers)}
    for _ in range(settings.rounds):
        for name, start_server in {**OURS, **peers}.items():
            measured[name].append(await _turn(start_server, settings.connections))
    figures = {name: Figure(f"own events, {name}", UNIT, tuple(values)) for name, values in measured.items()}
    native = figures["native route"]
    return [*figures.values(), *(ratio(native, figures[peer], peer, 1 / 3) for peer in peers)]


async def _turn(start_server: _subjects.StartServer, connections: int) -> float:
    async with start_server() as (server, port), _subjects.load(port, connections, path="/own") as load:
        await _subjects.own(server, load, connections, 3)
        return (await _subjects.own(server, load, connections, EVENTS)).microseconds


BENCHMARK = Benchmark("own events", 1000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
