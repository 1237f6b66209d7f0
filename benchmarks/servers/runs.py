"""Runs that write tokens at a steady pace: `runs N`, then `go SECONDS`, on stdin."""

from __future__ import annotations

import time

import trio

from benchmarks.harness.control import answer, lines
from trio_sse import Connection, Run, Runs, Server, tune_garbage_collector

TOKENS_PER_SECOND = 50

server = Server(max_connections=40_000)
runs = Runs(server.hub, max_runs=20_000, max_viewers=20_000)
ids: list[str] = []
gate = trio.lowlevel.ParkingLot()
seconds = 0.0


async def write(run: Run, number: int, count: int) -> None:
    """Write tokens, each with the time at which it was written."""
    await gate.park()
    begin = trio.current_time() + number / count / TOKENS_PER_SECOND  # not all at the same moment
    for token in range(int(seconds * TOKENS_PER_SECOND)):
        await trio.sleep_until(begin + token / TOKENS_PER_SECOND)
        await run.append(f"{time.monotonic():.5f} ")


@server.route("/runs/{number:int}")
async def show(connection: Connection, number: int) -> None:
    await runs.get(ids[number % len(ids)]).stream(connection)


async def serve() -> None:
    global seconds
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", 0)
        answer("listening", port=addresses[0][1])
        async for line in lines():
            match line.split():
                case ["runs", count]:
                    for number in range(int(count)):
                        ids.append((await runs.start(write, number, int(count))).id)
                    answer("runs")
                case ["go", text]:
                    seconds = float(text)
                    began_at = time.process_time()
                    gate.unpark_all()
                    for id in ids:
                        await runs.get(id).wait()
                    answer("go", cpu_seconds=time.process_time() - began_at)
                case ["memory"]:
                    _memory()
                case _:
                    break
        nursery.cancel_scope.cancel()


def _memory() -> None:
    with open("/proc/self/smaps_rollup") as rollup:
        own = next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
    answer("memory", own_bytes=own * 1024)


if __name__ == "__main__":
    tune_garbage_collector()
    trio.run(serve)
