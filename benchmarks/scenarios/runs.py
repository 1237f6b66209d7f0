"""Runs that write 50 tokens a second, with three viewers each: `python -m benchmarks.runs`.

A language model's answers. The age of a token when a viewer receives it includes the time for which a run
collects tokens to write them together. The viewers are one process on another core.

The functions also run without writing, which shows what the stand-in for the model costs. The *floor* writes
as often to as many sockets, in a loop of Python that does nothing else.
"""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager

import trio

from benchmarks.harness import subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.cores import LOAD_CORE, SERVER_CORE
from benchmarks.harness.measurement import Measurement, ratio
from benchmarks.harness.worker import BenchmarkError, Reply, Worker, started
from benchmarks.servers.runs import TOKENS_PER_SECOND

VIEWERS = 3
SECONDS = 10
IDLE_SECONDS = 4

TARGET_P99 = 50.0

start_server = subjects.server_of("runs", [sys.executable, "-m", "benchmarks.servers.runs"])


async def measure(settings: Settings) -> list[Measurement]:
    count = settings.connections // VIEWERS
    turns = []
    for _ in range(settings.rounds):
        turn = await _turn(count)
        turns.append({**turn, **await _floor(count, turn["interval"])})

    def measured(name: str, unit: str, key: str, target: float | None = None) -> Measurement:
        return Measurement(name, unit, tuple(turn[key] for turn in turns), target)

    cpu = measured("server CPU for each token of a run", "us", "microseconds")
    floor = measured("the same, floor", "us", "floor_microseconds")
    return [
        measured("age of a token when it is received, median", "ms", "median"),
        measured("age of a token when it is received, 99 %", "ms", "p99", TARGET_P99),
        measured("the same, floor", "ms", "floor_p99"),
        measured("time between two writes to a viewer", "ms", "interval"),
        measured("server", "of a core", "share"),
        cpu,
        measured("of which the stand-in for the model", "us", "idle_microseconds"),
        floor,
        ratio(cpu, floor, "the floor"),
        measured("memory of a run that waits", "KiB", "run_kib"),
        measured("memory of a token", "bytes", "token_bytes"),
        measured("load", "of a core", "load_share"),
    ]


async def _turn(count: int) -> dict[str, float]:
    written = count * SECONDS * TOKENS_PER_SECOND
    async with start_server() as (server, port):
        empty = (await server.ask("memory"))["own_bytes"]
        await server.ask(f"runs {count}")
        waiting = (await server.ask("memory"))["own_bytes"]
        idle = (await server.ask(f"idle {IDLE_SECONDS}"))["cpu_seconds"]
        async with _viewers(port) as viewers:
            await viewers.ask(f"open {count * VIEWERS}")
            shown = (await server.ask("memory"))["own_bytes"]
            cpu, found = await _write(server, f"go {SECONDS}", viewers)
        after = (await server.ask("memory"))["own_bytes"]
    _check(found, count)
    return {
        "median": found["median"],
        "p99": found["p99"],
        "interval": SECONDS * 1000 * count * VIEWERS / found["writes"],
        "share": cpu / SECONDS,
        "microseconds": cpu / written * 1e6,
        "idle_microseconds": idle / (count * IDLE_SECONDS * TOKENS_PER_SECOND) * 1e6,
        "run_kib": (waiting - empty) / count / 1024,
        "token_bytes": max(0.0, after - shown) / written,
        "load_share": found["cpu"] / SECONDS,
    }


async def _floor(count: int, interval: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.servers.run_floor"]
    async with started("floor", command, SERVER_CORE) as floor:
        port = int((await floor.reply())["port"])
        async with _viewers(port) as viewers:
            await viewers.ask(f"open {count * VIEWERS}")
            await floor.ask(f"serve {count} {VIEWERS}")
            cpu, found = await _write(floor, f"go {SECONDS} {interval / 1000}", viewers)
    _check(found, count)
    return {
        "floor_p99": found["p99"],
        "floor_microseconds": cpu / (count * SECONDS * TOKENS_PER_SECOND) * 1e6,
    }


def _viewers(port: int) -> AbstractAsyncContextManager[Worker]:
    return started("viewers", [sys.executable, "-m", "benchmarks.harness.run_viewers", f"{port}"], LOAD_CORE)


async def _write(server: Worker, command: str, viewers: Worker) -> tuple[float, Reply]:
    """Let a server write; return its CPU time, and what the viewers have received."""
    replies: dict[str, Reply] = {}

    async def report() -> None:
        replies["viewers"] = await viewers.ask("report")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(report)
        cpu = (await server.ask(command))["cpu_seconds"]
    return cpu, replies["viewers"]


def _check(found: Reply, count: int) -> None:
    expected = count * VIEWERS * SECONDS * TOKENS_PER_SECOND
    if found["tokens"] != expected or found["ended"] != count * VIEWERS:
        raise BenchmarkError(f"{found['tokens']:.0f} tokens were received instead of {expected}")


BENCHMARK = Benchmark("runs", 3000, measure, fewest=VIEWERS)

if __name__ == "__main__":
    main([BENCHMARK])
