"""What TLS costs a stream: `python -m benchmarks.tls`. The load must be built with OpenSSL's headers."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.harness import subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.certificates import certificate_files
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.scenarios import fanout, idle_memory

TARGET_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class _Turn:
    idle_kib: float
    idle_after_kib: float
    deliveries: fanout.Turn


async def measure(settings: Settings) -> list[Measurement]:
    plain: list[_Turn] = []
    secured: list[_Turn] = []
    with certificate_files() as files:
        start_secured = subjects.native_secured(*files)
        for _ in range(settings.rounds):
            plain.append(await _turn(subjects.native, settings.connections))
            secured.append(await _turn(start_secured, settings.connections, "--tls"))
    both = [[turn.deliveries for turn in turns] for turns in (plain, secured)]
    burst, burst_tls = map(fanout.burst_measurement, ("burst", "burst, TLS"), both)
    steady, steady_tls = map(fanout.steady_measurement, ("steady", "steady, TLS"), both)
    return [
        _idle_measurement("idle", plain),
        _idle_measurement("idle, TLS", secured),
        _idle_after_measurement("idle after bursts", plain),
        _idle_after_measurement("idle after bursts, TLS", secured),
        burst,
        burst_tls,
        ratio(burst_tls, burst, "plain HTTP"),
        steady,
        steady_tls,
        ratio(steady_tls, steady, "plain HTTP", TARGET_RATIO),
        fanout.busiest_load([*both[0], *both[1]]),
    ]


def _idle_measurement(name: str, turns: list[_Turn]) -> Measurement:
    return Measurement(name, "KiB per connection (PSS)", tuple(turn.idle_kib for turn in turns))


def _idle_after_measurement(name: str, turns: list[_Turn]) -> Measurement:
    return Measurement(name, "KiB per connection (PSS)", tuple(turn.idle_after_kib for turn in turns))


async def _turn(start_server: subjects.StartServer, connections: int, *options: str) -> _Turn:
    async with start_server() as (server, port), subjects.load(port, 0, *options) as load:
        await subjects.connect(load, 1)
        await load.ask("close")
        empty = await idle_memory.pss_kib(server)
        await subjects.connect(load, connections)
        idle = (await idle_memory.pss_kib(server) - empty) / connections
        deliveries = await fanout.deliver(server, load, connections, fanout.FULL)
        idle_after = (await idle_memory.pss_kib(server) - empty) / connections
        return _Turn(idle, idle_after, deliveries)


BENCHMARK = Benchmark("TLS", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
