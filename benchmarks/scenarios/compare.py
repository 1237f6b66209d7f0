"""Compare trio_sse with other servers: `python -m benchmarks.compare`.

It first installs the other servers that the machine can install, and names those that it leaves out. Each
server runs on one core in its natural best set-up. In each round the servers take turns, each in a new
process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import trio

from benchmarks.harness import broadcasts, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.paths import BUILD, PEERS
from benchmarks.harness.subjects import StartServer, server_of
from benchmarks.harness.worker import BenchmarkError
from benchmarks.scenarios import idle_memory
from benchmarks.scenarios.fanout import (
    BURST_EVENTS,
    STEADY_EVENTS,
    STEADY_MILLISECONDS,
    STEADY_WARM_UP_EVENTS,
)

VENV = BUILD / "peers-venv" / "bin" / "python"
NODE = BUILD / "peers-node" / "package.json"
GO = BUILD / "net_http"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

#: Time for servers that start their generators after the response's head to start all of them.
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A server to compare.

    Attributes:
        needs: a file that must exist for it.
        bursts: how many bursts count. A slow server gets one burst: it takes half a minute where others take
            a second, and its cost per delivery is the same in the first burst and the fifth.
        has_ids: whether its ids are consecutive numbers.
    """

    name: str
    start: StartServer
    needs: Path | None = None
    bursts: int = 5
    has_ids: bool = True

    @property
    def is_installed(self) -> bool:
        return self.needs is None or self.needs.exists()


@dataclass
class _Measured:
    idle: list[float] = field(default_factory=list)
    setup: list[float] = field(default_factory=list)
    burst: list[float] = field(default_factory=list)
    steady: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


def _python_peer(name: str) -> Subject:
    command = [str(VENV), str(PEERS / "asyncio_servers.py"), name]
    return Subject(name, server_of(name, command), VENV, bursts=1)


#: The Makefile's targets that install the Python peers and Go's.
PYTHON_TARGET = "../build/peers-venv/.ready"
GO_TARGET = "../build/net_http"

PYTHON_PEERS = tuple(map(_python_peer, ("aiohttp-sse", "sse-starlette", "fastapi")))

SUBJECTS = (
    Subject("trio_sse", subjects.native),
    Subject("Quart on trio_sse", subjects.quart_on_ours),
    Subject("Quart on hypercorn by trio_sse", subjects.quart_on_hypercorn, bursts=1),
    Subject("Go net/http", server_of("Go net/http", [str(GO)]), GO),
    Subject(
        "nginx with nchan",
        server_of("nchan", [sys.executable, str(PEERS / "nchan.py")]),
        NCHAN,
        has_ids=False,
    ),
    Subject(
        "better-sse on Node",
        server_of("better-sse", ["node", "--expose-gc", str(PEERS / "better_sse.mjs"), str(NODE)]),
        NODE,
    ),
    *PYTHON_PEERS,
    Subject("Quart's documentation, on hypercorn", subjects.quart_plain, bursts=1),
)


async def measure(settings: Settings) -> list[Measurement]:
    await install()
    installed = [subject for subject in SUBJECTS if subject.is_installed]
    for subject in SUBJECTS:
        if subject not in installed:
            print(f"left out: {subject.name}, because {subject.needs} is missing")
    measured = {subject.name: _Measured() for subject in installed}
    failed: set[str] = set()
    for _ in range(settings.rounds):
        for subject in installed:
            try:
                await _turn(subject, settings.connections, measured[subject.name])
            except BenchmarkError as error:
                print(f"left out: {subject.name}: {error}", flush=True)
                failed.add(subject.name)
    counting = {name: values for name, values in measured.items() if name not in failed}
    measurements: list[Measurement] = []
    for what, unit in (
        ("idle", "KiB per connection"),
        ("setup", "us of server CPU per connection"),
        ("burst", "us of server CPU per delivery"),
        ("steady", "us of server CPU per delivery"),
    ):
        each = _measurements(what, unit, counting)
        ours = each["trio_sse"]
        measurements += [
            *each.values(),
            *(ratio(ours, other, name) for name, other in each.items() if other is not ours),
        ]
    return [*measurements, *_measurements("load", "of a core, at its busiest", counting).values()]


def _measurements(what: str, unit: str, measured: dict[str, _Measured]) -> dict[str, Measurement]:
    return {
        name: Measurement(f"{what}, {name}", unit, tuple(getattr(values, what)))
        for name, values in measured.items()
    }


async def install(target: str = "peers") -> None:
    """Install the peers that the machine can install, or one target of their Makefile."""
    if shutil.which("make"):
        command = ["make", "--silent", "-C", str(PEERS), target]
        await trio.run_process(command, stdout=subprocess.DEVNULL, check=False)


async def _turn(subject: Subject, connections: int, measured: _Measured) -> None:
    async with subject.start() as (server, port), subjects.load(port) as load:
        ids = subject.has_ids
        await subjects.connect(load, 1)
        await trio.sleep(_SETTLE_SECONDS)
        await broadcasts.broadcast(server, load, 1, "burst 1", 1, has_ids=ids)
        await load.ask("close")
        await trio.sleep(_SETTLE_SECONDS)
        empty = await idle_memory.pss_kib(server)
        before = await broadcasts.cpu_seconds(server)
        await subjects.connect(load, connections)
        await trio.sleep(_SETTLE_SECONDS)
        measured.setup.append((await broadcasts.cpu_seconds(server) - before) / connections * 1e6)
        measured.idle.append((await idle_memory.pss_kib(server) - empty) / connections)

        async def deliver(command: str, events: int) -> broadcasts.Broadcast:
            return await broadcasts.broadcast(server, load, connections, command, events, has_ids=ids)

        await deliver("burst 3", 3)
        bursts = [await deliver(f"burst {BURST_EVENTS}", BURST_EVENTS) for _ in range(subject.bursts)]
        cpu, deliveries = sum(b.cpu_seconds for b in bursts), sum(b.deliveries for b in bursts)
        measured.burst.append(cpu / deliveries * 1e6)
        await deliver(f"steady {STEADY_WARM_UP_EVENTS} {STEADY_MILLISECONDS}", STEADY_WARM_UP_EVENTS)
        steady = await deliver(f"steady {STEADY_EVENTS} {STEADY_MILLISECONDS}", STEADY_EVENTS)
        measured.steady.append(steady.microseconds)
        measured.load.append(max(broadcast.load_share for broadcast in (*bursts, steady)))


BENCHMARK = Benchmark("comparison", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
