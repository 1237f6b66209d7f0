"""What HTTP/2 costs a stream, and other servers: `python -m benchmarks.http2`.

Ten streams share a connection, under TLS. The load must be built with OpenSSL's headers. Go and nginx with
nchan are installed first, where the machine can install them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from benchmarks.harness import broadcasts, http2_load, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.certificates import certificate_files
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.paths import PEERS
from benchmarks.harness.worker import Worker
from benchmarks.scenarios import compare, fanout, idle_memory
from benchmarks.scenarios.stall import Stalls

STREAMS_PER_CONNECTION = 10
STALL_STREAMS_PER_CONNECTION = 100
#: So many times more streams than otherwise while the loop is probed: 10,000 by default.
STALL_FACTOR = 2.5

TARGET_BURST_RATIO = 1.0
TARGET_STEADY_RATIO = 0.6
TARGET_PEER_RATIO = 1.0
TARGET_SETUP_RATIO = 0.5
TARGET_IDLE_KIB = 4.0

_SETTLE_SECONDS = 1.0


@dataclass
class _Subject:
    """A server and how its streams are opened, with what was measured in each round."""

    name: str
    start: subjects.StartServer
    is_http2: bool = True
    is_secure: bool = True
    has_ids: bool = True
    needs: Path | None = None
    connection_setup: list[float] = field(default_factory=list)
    stream_setup: list[float] = field(default_factory=list)
    connection_kib: list[float] = field(default_factory=list)
    stream_kib: list[float] = field(default_factory=list)
    deliveries: list[fanout.Turn] = field(default_factory=list)

    @property
    def is_installed(self) -> bool:
        return self.needs is None or self.needs.exists()

    async def turn(self, streams: int) -> None:
        """Measure it once, in a new process."""
        connections = streams // STREAMS_PER_CONNECTION if self.is_http2 else streams
        async with (
            self.start() as (server, port),
            subjects.load(port, 0, *self._options(port, connections)) as load,
        ):
            await subjects.connect(load, 1)
            await broadcasts.burst(server, load, 1, 1, has_ids=self.has_ids)
            await load.ask("close")
            await trio.sleep(_SETTLE_SECONDS)
            cost, kib = await _open(server, load, connections)
            self.connection_setup.append(cost)
            self.connection_kib.append(kib)
            if self.is_http2:
                cost, kib = await _open(server, load, streams - connections)
                self.stream_setup.append(cost)
                self.stream_kib.append(kib)
            self.deliveries.append(
                await fanout.deliver(server, load, streams, fanout.FULL, has_ids=self.has_ids)
            )

    def _options(self, port: int, connections: int) -> Sequence[str]:
        if self.is_http2:
            return http2_load.options(port, connections, is_secure=self.is_secure)
        return ["--tls"] if self.is_secure else []

    def measurement(self, what: str, unit: str, target: float | None = None) -> Measurement:
        """Return what an attribute has for each round."""
        name = what.replace("_", " ").replace(" kib", "")
        return Measurement(f"{name}, {self.name}", unit, tuple(getattr(self, what)), target)

    @property
    def burst(self) -> Measurement:
        return fanout.burst_measurement(f"burst, {self.name}", self.deliveries)

    @property
    def steady(self) -> Measurement:
        return fanout.steady_measurement(f"steady, {self.name}", self.deliveries)


async def _open(server: Worker, load: Worker, streams: int) -> tuple[float, float]:
    """Open more streams; return the server's microseconds and KiB for each."""
    kib, cpu = await idle_memory.pss_kib(server), await broadcasts.cpu_seconds(server)
    await subjects.connect(load, streams)
    await trio.sleep(_SETTLE_SECONDS)
    cpu = await broadcasts.cpu_seconds(server) - cpu
    return cpu / streams * 1e6, (await idle_memory.pss_kib(server) - kib) / streams


def _subjects(files: tuple[str, str]) -> list[_Subject]:
    go = subjects.server_of("Go net/http", [str(compare.GO), *files])
    nchan = subjects.server_of("nchan", [sys.executable, str(PEERS / "nchan.py"), *files])
    return [
        _Subject("HTTP/2", subjects.native_secured(*files)),
        _Subject("HTTP/1.1 with TLS", subjects.native_secured(*files), is_http2=False),
        _Subject("HTTP/1.1 without TLS", subjects.native, is_http2=False, is_secure=False),
        _Subject("Go net/http", go, needs=compare.GO),
        _Subject("nginx with nchan", nchan, has_ids=False, needs=compare.NCHAN),
    ]


async def measure(settings: Settings) -> list[Measurement]:
    for target in ("packages", compare.GO_TARGET):
        await compare.install(target)
    stalls = Stalls()
    with certificate_files() as files:
        measured = _subjects(files)
        for subject in measured:
            if not subject.is_installed:
                print(f"left out: {subject.name}, because {subject.needs} is missing")
        measured = [subject for subject in measured if subject.is_installed]
        stalled_streams = int(settings.connections * STALL_FACTOR)
        stalled = partial(
            http2_load.options, connections=stalled_streams // STALL_STREAMS_PER_CONNECTION, is_secure=True
        )
        for _ in range(settings.rounds):
            for subject in measured:
                await subject.turn(settings.connections)
            await stalls.add_round(measured[0].start, stalled_streams, stalled)
    return [*_measurements(measured), *stalls.measurements()]


def _measurements(measured: list[_Subject]) -> list[Measurement]:
    ours, secured, plain, *peers = measured
    found: list[Measurement] = []
    for what, target in (("burst", TARGET_BURST_RATIO), ("steady", TARGET_STEADY_RATIO)):
        own: Measurement = getattr(ours, what)
        found += [getattr(subject, what) for subject in measured]
        found += [ratio(own, getattr(secured, what), secured.name, target)]
        found += [ratio(own, getattr(plain, what), plain.name)]
        found += [ratio(own, getattr(peer, what), peer.name, TARGET_PEER_RATIO) for peer in peers]
    unit = "us of server CPU"
    secured_setup = secured.measurement("connection_setup", unit)
    stream_setup = ours.measurement("stream_setup", unit)
    found += [subject.measurement("connection_setup", unit) for subject in measured]
    found += [subject.measurement("stream_setup", unit) for subject in (ours, *peers)]
    found += [ratio(stream_setup, secured_setup, "a connection of HTTP/1.1 with TLS", TARGET_SETUP_RATIO)]
    unit = "KiB (PSS)"
    found += [subject.measurement("connection_kib", unit) for subject in measured]
    found += [ours.measurement("stream_kib", unit, TARGET_IDLE_KIB)]
    found += [peer.measurement("stream_kib", unit) for peer in peers]
    return [*found, fanout.busiest_load([turn for subject in measured for turn in subject.deliveries])]


BENCHMARK = Benchmark("HTTP/2", 4000, measure, fewest=100)

if __name__ == "__main__":
    main([BENCHMARK])
