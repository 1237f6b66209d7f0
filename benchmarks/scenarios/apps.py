"""What requests to an app cost on our server, uvicorn and hypercorn: `python -m benchmarks.apps`.

The same Starlette and Quart apps run on each: on uvicorn with uvloop and httptools, as its documentation
recommends, and on ours and hypercorn on Trio. Each server runs on one core. In each round the servers take
turns, each in a new process.

Two more rows say what a server can change at all: the app alone, called in a loop, and the app on the
smallest Trio server, which parses, checks and bounds nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import trio

from benchmarks.harness import broadcasts, request_load
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.cores import SERVER_CORE
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.paths import PEERS
from benchmarks.harness.subjects import StartServer, server_of
from benchmarks.harness.worker import BenchmarkError, Worker, started
from benchmarks.scenarios import idle_memory
from benchmarks.scenarios.compare import PYTHON_TARGET, VENV, install

_SECONDS = 4

#: Each route of the apps, and the size of the body of its requests.
ROUTES = {"/hello": 0, "/length": 10_000, "/parts": 0}
_FLOOR_ROUTE = "/hello"

# The targets are for time and memory, so for requests a second they are the other way round.
TARGET_OF_UVICORN = 1.0
TARGET_OF_HYPERCORN = 1 / 3

SERVERS = ("ours", "uvicorn", "hypercorn")


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one server did in one round.

    Attributes:
        wall: microseconds between two answers, by route.
        cpu: microseconds of the server's CPU time for each, by route.
        memory: of the whole process after the requests, in MiB.
        idle_kib: of each further connection that is kept alive.
    """

    wall: dict[str, float]
    cpu: dict[str, float]
    memory: float
    idle_kib: float


async def measure(settings: Settings) -> list[Measurement]:
    request_load.require()
    await install(PYTHON_TARGET)
    measurements: list[Measurement] = []
    for app in ("starlette", "quart"):
        turns: dict[str, list[_Turn]] = {server: [] for server in SERVERS}
        alone: list[float] = []
        floor: list[float] = []
        for _ in range(settings.rounds):
            alone.append(await _alone(app))
            floor.append(await _on_floor(app))
            for server in SERVERS:
                turns[server].append(await _turn(_starter(server, app), settings.connections))
        name, unit = f"{app} {_FLOOR_ROUTE}", "us of CPU per request"
        measurements.append(Measurement(f"{name}, the app alone", unit, tuple(alone)))
        measurements.append(Measurement(f"{name}, floor: the smallest Trio server", unit, tuple(floor)))
        for route in ROUTES:
            measurements += _of_route(f"{app} {route}", route, turns)
        measurements += _compared(f"{app} memory", "MiB of the process", lambda turn: turn.memory, turns)
        measurements += _compared(
            f"{app} idle", "KiB per connection kept alive", lambda turn: turn.idle_kib, turns
        )
    return measurements


def _of_route(name: str, route: str, turns: dict[str, list[_Turn]]) -> list[Measurement]:
    def wall(turn: _Turn) -> float:
        return turn.wall[route]

    def cpu(turn: _Turn) -> float:
        return turn.cpu[route]

    return [
        *_compared(name, "us between two answers", wall, turns, TARGET_OF_HYPERCORN),
        *_compared(name, "us of server CPU per request", cpu, turns, TARGET_OF_HYPERCORN),
    ]


def _compared(
    name: str,
    unit: str,
    value: Callable[[_Turn], float],
    turns: dict[str, list[_Turn]],
    of_hypercorn: float | None = None,
) -> list[Measurement]:
    found = {
        server: Measurement(f"{name}, {server}", unit, tuple(map(value, turns[server]))) for server in SERVERS
    }
    ours = found["ours"]
    return [
        *found.values(),
        ratio(ours, found["uvicorn"], "uvicorn", TARGET_OF_UVICORN),
        ratio(ours, found["hypercorn"], "hypercorn", of_hypercorn),
    ]


def _starter(server: str, app: str) -> StartServer:
    name = f"{app} on {server}"
    if server == "uvicorn":
        return server_of(name, [str(VENV), str(PEERS / "uvicorn_apps.py"), app])
    return server_of(name, [sys.executable, "-m", "benchmarks.servers.hosted_app", server, app])


async def _alone(app: str) -> float:
    command = [sys.executable, "-m", "benchmarks.servers.app_alone", app]
    async with started(f"{app} alone", command, SERVER_CORE) as worker:
        return (await worker.reply())["microseconds"]


async def _on_floor(app: str) -> float:
    async with _starter("floor", app)() as (server, port):
        return (await _load(server, port, _FLOOR_ROUTE))[0]


async def _load(server: Worker, port: int, route: str) -> tuple[float, float]:
    """Return the server's CPU time per request, and the time between two answers, in microseconds."""
    body = ROUTES[route]
    await request_load.requests(port, route, 1, body=body)  # to warm up
    used = await broadcasts.cpu_seconds(server)
    answered = await request_load.requests(port, route, _SECONDS, body=body)
    cpu = (await broadcasts.cpu_seconds(server) - used) / answered.requests * 1e6
    return cpu, answered.seconds / answered.requests * 1e6


async def _turn(start: StartServer, connections: int) -> _Turn:
    async with start() as (server, port):
        wall, cpu = {}, {}
        for route in ROUTES:
            cpu[route], wall[route] = await _load(server, port, route)
        before = await idle_memory.pss_kib(server)
        after = await _with_idle(server, port, connections)
    return _Turn(wall, cpu, before / 1024, (after - before) / connections)


async def _with_idle(server: Worker, port: int, connections: int) -> float:
    """Return the server's memory while connections are open that have carried one request each."""
    streams: list[trio.SocketStream] = []
    try:
        for _ in range(connections):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            streams.append(stream)
            await stream.send_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}") and b"}" not in answer:
                received = await stream.receive_some()
                if not received:
                    raise BenchmarkError("the server closed a connection that it should keep alive")
                answer += received
        return await idle_memory.pss_kib(server)
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


BENCHMARK = Benchmark("apps", 2000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
