"""The control of a measured Python server: commands on stdin, answers on stdout, no threads.

It is one more Trio task in the process under test, and is idle between commands.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import final

import trio

from benchmarks.harness.stall_probe import StallProbe

STDIN = 0

#: The data of each event.
DATA = "x" * 100

#: Publishes an event with this data to a topic.
Publish = Callable[[str, str], Awaitable[object]]

#: Starts a server in a nursery and returns its port.
Start = Callable[[trio.Nursery], Awaitable[int]]

#: The topic of /updates. The topics of /topics/0, /topics/1, ... are named by their numbers.
LIVE = "live"


@final
class Gate:
    """Lets all handlers of /own send a number of events, each time it is opened."""

    def __init__(self) -> None:
        self._handlers = trio.lowlevel.ParkingLot()
        self._count = 0

    async def wait(self) -> int:
        """Wait until it is opened. Return how many events to send."""
        await self._handlers.park()
        return self._count

    def open(self, count: int) -> None:
        """Let all waiting handlers send `count` events."""
        self._count = count
        self._handlers.unpark_all()


async def serve_with_control(
    start: Start,
    publish: Publish,
    *,
    gate: Gate | None = None,
    disconnect_all: Callable[[], None] | None = None,
) -> None:
    """Run a server until the command `quit`. `disconnect_all` asks all clients to reconnect."""
    async with trio.open_nursery() as nursery:
        await run_commands(await start(nursery), publish, gate, disconnect_all)
        nursery.cancel_scope.cancel()


async def run_commands(
    port: int, publish: Publish, gate: Gate | None, disconnect_all: Callable[[], None] | None
) -> None:
    """Print the server's port, then run commands until `quit` or the end of stdin.

    burst K            publish K events back to back
    steady K INTERVAL  publish K events, one each INTERVAL milliseconds
    stamped K INTERVAL the same, with data that begins with the time in nanoseconds in 20 digits
    topics N K         publish K events to each of the topics 0 to N - 1
    own K              let each handler of /own send K events
    storm K INTERVAL   the same as steady, and disconnect all clients in the middle
    cpu                answer with the CPU time used so far
    memory             collect garbage, then answer with the proportional set size and the anonymous memory
    probe start        start to measure how long another task has to wait
    probe stop         answer with the longest wait since then
    """
    answer("listening", port=port)
    async with trio.open_nursery() as nursery:
        probe = StallProbe()
        async for line in lines():
            match line.split():
                case ["burst", count]:
                    for _ in range(int(count)):
                        await publish(DATA, LIVE)
                    answer("burst")
                case ["steady" | "stamped" as name, count, milliseconds]:
                    data = _stamped if name == "stamped" else lambda: DATA
                    await _steady(publish, data, int(count), int(milliseconds) / 1000)
                    answer(name)
                case ["topics", topics, rounds]:
                    for _ in range(int(rounds)):
                        for topic in range(int(topics)):
                            await publish(DATA, f"{topic}")
                    answer("topics")
                case ["own", count] if gate is not None:
                    gate.open(int(count))
                    answer("own")
                case ["storm", count, milliseconds] if disconnect_all is not None:
                    half, interval = int(count) // 2, int(milliseconds) / 1000
                    await _steady(publish, lambda: DATA, half, interval)
                    disconnect_all()
                    await _steady(publish, lambda: DATA, int(count) - half, interval)
                    answer("storm")
                case ["cpu"]:
                    usage = resource.getrusage(resource.RUSAGE_SELF)
                    answer("cpu", user_seconds=usage.ru_utime, system_seconds=usage.ru_stime)
                case ["memory"]:
                    gc.collect()
                    answer("memory", pss_bytes=_from_rollup("Pss"), own_bytes=_from_rollup("Anonymous"))
                case ["probe", "start"]:
                    probe = await nursery.start(StallProbe.run)
                    answer("probe")
                case ["probe", "stop"]:
                    probe.stop()
                    answer("probe", **probe.results())
                case ["quit"]:
                    return
                case _:
                    print(json.dumps({"reply": "refused", "error": f"no such command: {line}"}), flush=True)


def answer(name: str, **values: float) -> None:
    """Answer a command."""
    print(json.dumps({"reply": name, **values}), flush=True)


def _stamped() -> str:
    return f"{time.monotonic_ns():020}".ljust(len(DATA), "x")


async def _steady(publish: Publish, data: Callable[[], str], count: int, interval: float) -> None:
    start = trio.current_time()
    for index in range(1, count + 1):
        await publish(data(), LIVE)
        await trio.sleep_until(start + index * interval)


async def lines() -> AsyncIterator[str]:
    """Yield the lines of stdin."""
    # `trio.lowlevel.FdStream` would make stdin non-blocking, also for other processes that share it.
    unread = b""
    while True:
        await trio.lowlevel.wait_readable(STDIN)
        received = os.read(STDIN, 4096)
        if not received:
            return
        *lines, unread = (unread + received).split(b"\n")
        for line in lines:
            yield line.decode()


def _from_rollup(name: str) -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not report {name}")
