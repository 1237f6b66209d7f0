"""Runs that write tokens at a steady pace: `runs N`, then `idle SECONDS` or `go SECONDS`, on stdin."""

from __future__ import annotations

import time
from typing import final

import trio

from benchmarks.harness.control import answer, lines
from trio_sse import Connection, Run, Runs, Server, tune_garbage_collector

TOKENS_PER_SECOND = 50

# The functions get their tokens in so many groups, one after the other.
_GROUPS = 20


@final
class Model:
    """Wakes each function when its next token is there.

    It stands in for a model whose tokens arrive over a connection: one task has the timer for all of them,
    since Trio's timers for each would cost as much as the runs.
    """

    def __init__(self) -> None:
        self.tokens = [0] * _GROUPS  # that were made so far, for the functions of each group
        self._waiting = [trio.lowlevel.ParkingLot() for _ in range(_GROUPS)]

    async def next(self, number: int, token: int) -> None:
        """Wait for a token."""
        group = number % _GROUPS
        while self.tokens[group] <= token:
            await self._waiting[group].park()

    async def run(self, seconds: float) -> None:
        """Make tokens for so long."""
        began_at = trio.current_time()
        for tick in range(int(seconds * TOKENS_PER_SECOND) * _GROUPS):
            await trio.sleep_until(began_at + tick / _GROUPS / TOKENS_PER_SECOND)
            self.tokens[tick % _GROUPS] += 1
            self._waiting[tick % _GROUPS].unpark_all()


server = Server(max_connections=40_000)
runs = Runs(server.hub, max_runs=20_000, max_viewers=20_000)
ids: list[str] = []
model = Model()
gate = trio.lowlevel.ParkingLot()
seconds = 0.0
is_idle = False
written = 0


async def write(run: Run, number: int) -> None:
    """Write tokens, each with the time at which it was written."""
    global written
    is_over = False
    while not is_over:
        await gate.park()
        is_over = not is_idle
        for token in range(int(seconds * TOKENS_PER_SECOND)):
            await model.next(number, token)
            if is_over:
                await run.append(f"{time.monotonic():.5f} ")
            else:
                written += 1


@server.route("/runs/{number:int}")
async def show(connection: Connection, number: int) -> None:
    await runs.get(ids[number % len(ids)]).stream(connection)


async def serve() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", 0)
        answer("listening", port=addresses[0][1])
        async for line in lines():
            match line.split():
                case ["runs", count]:
                    for number in range(int(count)):
                        ids.append((await runs.start(write, number)).id)
                    answer("runs")
                case ["idle", text]:
                    answer("idle", cpu_seconds=await _turn(float(text), idle=True))
                case ["go", text]:
                    answer("go", cpu_seconds=await _turn(float(text), idle=False))
                case ["memory"]:
                    _memory()
                case _:
                    break
        nursery.cancel_scope.cancel()


async def _turn(length: float, *, idle: bool) -> float:
    """Let the functions get their tokens, and write them unless it is idle; return the CPU time."""
    global is_idle, model, seconds, written
    is_idle, model, seconds, written = idle, Model(), length, 0
    began_at = time.process_time()
    gate.unpark_all()
    await model.run(length)
    if not idle:
        for id in ids:
            await runs.get(id).wait()
    return time.process_time() - began_at


def _memory() -> None:
    with open("/proc/self/smaps_rollup") as rollup:
        own = next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
    answer("memory", own_bytes=own * 1024)


if __name__ == "__main__":
    tune_garbage_collector()
    trio.run(serve)
