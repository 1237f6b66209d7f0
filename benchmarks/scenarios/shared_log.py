"""What a log on Redis costs: `python -m benchmarks.shared_log`.

It measures three things, on its own Redis: the time from `publish` to a client of another process, next
to XADD and XREAD alone; how many events a second can be published; and the cost of a delivery, next to one
from the in-memory log.
"""

from __future__ import annotations

import sys
import time

import trio

from benchmarks.harness import log_floor, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.clients import clients
from benchmarks.harness.command_line import main
from benchmarks.harness.cores import on_all_cores
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.publisher import publishing
from benchmarks.harness.service import redis, running
from benchmarks.harness.worker import Worker, started
from benchmarks.scenarios import fanout

WORKERS = 4
LATENCY_STREAMS = 40
LATENCY_SECONDS = 10
PER_SECOND = 1000

PUBLISHERS = 2
BURST_EVENTS = 30_000

TARGET_P99_MILLISECONDS = 10.0
TARGET_PUBLISHED = 20_000
TARGET_RATIO = 1.1


async def measure(settings: Settings) -> list[Measurement]:
    latencies, floors = [], []
    with on_all_cores():  # more processes than cores
        for _ in range(settings.rounds):
            latencies.append(await _latency())
            floors.append(await _floor_latency())
        published = [await _published(PUBLISHERS) for _ in range(settings.rounds)]
        alone = [await _published(1) for _ in range(settings.rounds)]
    costs = [await _costs(settings.connections) for _ in range(settings.rounds)]
    names = ("p50", "p99", "max")
    measurements = [
        Measurement(
            f"publish to delivery, {name}",
            "ms",
            tuple(latency[index] for latency in latencies),
            TARGET_P99_MILLISECONDS if name == "p99" else None,
        )
        for index, name in enumerate(names)
    ]
    floor_p99 = Measurement("coredis alone, p99", "ms", tuple(floor[1] for floor in floors))
    measurements += [
        Measurement("coredis alone, p50", "ms", tuple(floor[0] for floor in floors)),
        floor_p99,
        ratio(measurements[1], floor_p99, "coredis alone"),
        Measurement(f"published by {PUBLISHERS} processes", "events a second", tuple(published)),
        Measurement("published by one", "events a second", tuple(alone)),
    ]
    for index, name in enumerate(("burst", "steady")):
        on_redis, in_memory = (
            Measurement(f"{name}, {where}", fanout.UNIT, tuple(cost[side][index] for cost in costs))
            for side, where in enumerate(("log on Redis", "log in memory"))
        )
        measurements += [
            on_redis,
            in_memory,
            ratio(on_redis, in_memory, "the log in memory", TARGET_RATIO),
        ]
    return measurements


async def _latency() -> tuple[float, float, float]:
    """Return percentiles of the milliseconds from publish to receipt, at a thousand events a second."""
    async with (
        redis() as server,
        running(WORKERS, server.url) as service,
        clients(service.port, LATENCY_STREAMS) as streams,
        publishing(server.url) as publisher,
    ):
        await streams.connect()
        async with streams.receiving(PER_SECOND):
            await publisher.steady(PER_SECOND, PER_SECOND)
        async with streams.receiving(LATENCY_SECONDS * PER_SECOND) as replies:
            await publisher.steady(LATENCY_SECONDS * PER_SECOND, PER_SECOND)
        (reply,) = replies
        return reply["latency_p50"] / 1e3, reply["latency_p99"] / 1e3, reply["latency_max"] / 1e3


async def _floor_latency() -> tuple[float, float, float]:
    async with redis() as server:
        return await log_floor.latency(server.url, WORKERS, LATENCY_SECONDS * PER_SECOND, PER_SECOND)


async def _published(processes: int) -> float:
    """Return how many events a second the processes publish together. An event counts when it is stored."""
    async with redis("--appendfsync", "everysec") as server:
        commands = [
            [sys.executable, "-m", "benchmarks.servers.log_publisher", server.url] for _ in range(processes)
        ]
        seconds: list[float] = []

        async def publish(command: list[str], *, task_status: trio.TaskStatus[Worker]) -> None:
            async with started("publisher", command, None) as worker:
                await worker.reply()
                task_status.started(worker)
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            workers = [await nursery.start(publish, command) for command in commands]
            began_at = time.monotonic()

            async def ask(worker: Worker) -> None:
                await worker.ask(f"publish {BURST_EVENTS}")
                seconds.append(time.monotonic() - began_at)

            async with trio.open_nursery() as asking:
                for worker in workers:
                    asking.start_soon(ask, worker)
            nursery.cancel_scope.cancel()
        return processes * BURST_EVENTS / max(seconds)


async def _costs(connections: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the CPU time of a burst and a steady delivery, with a log on Redis and in memory."""
    async with redis("--appendfsync", "everysec") as server:
        command = [sys.executable, "-m", "benchmarks.servers.native", "--log", server.url]
        on_redis = subjects.server_of("log on Redis", command)
        found = []
        for start in (on_redis, subjects.native):
            async with start() as (subject, port), subjects.load(port, connections) as load:
                delivered = await fanout.deliver(subject, load, connections, fanout.FULL)
                found.append((delivered.burst_microseconds, delivered.steady.microseconds))
    return found[0], found[1]


BENCHMARK = Benchmark("shared log", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
