"""What a log on Redis costs: `python -m benchmarks.shared_log`.

Three things, on a Redis of its own: how long an event takes from `publish` to a client of another process,
beside XADD and XREAD alone; how many events a second can be published; and what a delivery costs beside one
of the in-memory log.
"""

from __future__ import annotations

import sys
import time

import trio

from benchmarks.harness import log_floor, subjects
from benchmarks.harness.command_line import Benchmark, Settings, main
from benchmarks.harness.measurement import Figure, ratio
from benchmarks.harness.service import clients, publishing, redis, running
from benchmarks.harness.worker import Worker, on_all_cores, started
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


async def measure(settings: Settings) -> list[Figure]:
    latencies, floors = [], []
    with on_all_cores():  # there are more processes than cores
        for _ in range(settings.rounds):
            latencies.append(await _latency())
            floors.append(await _floor_latency())
        published = [await _published(PUBLISHERS) for _ in range(settings.rounds)]
        alone = [await _published(1) for _ in range(settings.rounds)]
    costs = [await _costs(settings.connections) for _ in range(settings.rounds)]
    names = ("p50", "p99", "max")
    figures = [
        Figure(
            f"publish to delivery, {name}",
            "ms",
            tuple(latency[index] for latency in latencies),
            TARGET_P99_MILLISECONDS if name == "p99" else None,
        )
        for index, name in enumerate(names)
    ]
    floor_p99 = Figure("coredis alone, p99", "ms", tuple(floor[1] for floor in floors))
    figures += [
        Figure("coredis alone, p50", "ms", tuple(floor[0] for floor in floors)),
        floor_p99,
        ratio(figures[1], floor_p99, "one of coredis alone"),
        Figure(f"published by {PUBLISHERS} processes", "events a second", tuple(published)),
        Figure("published by one", "events a second", tuple(alone)),
    ]
    for index, name in enumerate(("burst", "steady")):
        on_redis, in_memory = (
            Figure(f"{name}, {where}", fanout.UNIT, tuple(cost[side][index] for cost in costs))
            for side, where in enumerate(("log on Redis", "log in memory"))
        )
        figures += [on_redis, in_memory, ratio(on_redis, in_memory, f"{name} of in memory", TARGET_RATIO)]
    return figures


async def _latency() -> tuple[float, float, float]:
    """Give percentiles of the milliseconds from publish to receipt, at a thousand events a second."""
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
    """Give how many events a second so many processes publish together, each stored when it counts."""
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
    """Give the CPU time of a burst's and of a steady delivery, with a log on Redis and in memory."""
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
