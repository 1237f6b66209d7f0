"""Runs that write 50 tokens a second, with three viewers each: `python -m benchmarks.runs`.

A language model's answers. The age of a token when a viewer receives it includes the time for which a run
collects tokens to write them together. The viewers are one process on another core.
"""

from __future__ import annotations

import sys

import trio

from benchmarks.harness import subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.cores import LOAD_CORE
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.worker import BenchmarkError, Reply, started
from benchmarks.servers.runs import TOKENS_PER_SECOND

VIEWERS = 3
SECONDS = 10

TARGET_P99 = 50.0

start_server = subjects.server_of("runs", [sys.executable, "-m", "benchmarks.servers.runs"])


async def measure(settings: Settings) -> list[Measurement]:
    turns = [await _turn(settings.connections // VIEWERS) for _ in range(settings.rounds)]

    def values(name: str) -> tuple[float, ...]:
        return tuple(turn[name] for turn in turns)

    return [
        Measurement("age of a token when it is received, median", "ms", values("median")),
        Measurement("age of a token when it is received, 99 %", "ms", values("p99"), TARGET_P99),
        Measurement("server", "of a core", values("share")),
        Measurement("server CPU for each token of a run", "us", values("microseconds")),
        Measurement("memory of a run that waits", "KiB", values("run_kib")),
        Measurement("memory of a token", "bytes", values("token_bytes")),
        Measurement("load", "of a core", values("load_share")),
    ]


async def _turn(count: int) -> dict[str, float]:
    written = count * SECONDS * TOKENS_PER_SECOND
    async with start_server() as (server, port):
        empty = (await server.ask("memory"))["own_bytes"]
        await server.ask(f"runs {count}")
        waiting = (await server.ask("memory"))["own_bytes"]
        command = [sys.executable, "-m", "benchmarks.harness.run_viewers", f"{port}"]
        async with started("viewers", command, LOAD_CORE) as viewers:
            await viewers.ask(f"open {count * VIEWERS}")
            shown = (await server.ask("memory"))["own_bytes"]
            replies: dict[str, Reply] = {}

            async def report() -> None:
                replies["viewers"] = await viewers.ask("report")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(report)
                replies["server"] = await server.ask(f"go {SECONDS}")
        after = (await server.ask("memory"))["own_bytes"]
    found = replies["viewers"]
    if found["tokens"] != written * VIEWERS or found["ended"] != count * VIEWERS:
        raise BenchmarkError(f"{found['tokens']:.0f} tokens were received instead of {written * VIEWERS}")
    cpu = replies["server"]["cpu_seconds"]
    return {
        "median": found["median"],
        "p99": found["p99"],
        "share": cpu / SECONDS,
        "microseconds": cpu / written * 1e6,
        "run_kib": (waiting - empty) / count / 1024,
        "token_bytes": max(0.0, after - shown) / written,
        "load_share": found["cpu"] / SECONDS,
    }


BENCHMARK = Benchmark("runs", 3000, measure, fewest=VIEWERS)

if __name__ == "__main__":
    main([BENCHMARK])
