"""The control of a measured Python server: commands on stdin, answers on stdout, no threads.

It runs as one more Trio task in the process under test, and does nothing while no command comes.
"""

from __future__ import annotations

import gc
import json
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from ._probe import StallProbe

STDIN = 0

#: What every server publishes.
DATA = "x" * 100

Publish = Callable[[], Awaitable[object]]

#: Starts a server in a nursery, and gives its port.
Start = Callable[[trio.Nursery], Awaitable[int]]


async def serve_and_obey(start: Start, publish: Publish) -> None:
    """Run a server until told to quit."""
    async with trio.open_nursery() as nursery:
        await obey_commands(await start(nursery), publish)
        nursery.cancel_scope.cancel()


async def obey_commands(port: int, publish: Publish) -> None:
    """Say which port the server listens on, then obey until told to quit or stdin ends.

    burst K            publish K events back to back
    steady K INTERVAL  publish an event each INTERVAL milliseconds, K times
    cpu                tell the CPU time used so far
    memory             collect garbage, then tell the proportional set size
    probe start        begin to watch how long another task has to wait
    probe stop         tell the longest wait since then
    """
    answer("listening", port=port)
    async with trio.open_nursery() as nursery:
        probe = StallProbe()
        async for line in _lines():
            match line.split():
                case ["burst", count]:
                    for _ in range(int(count)):
                        await publish()
                    answer("burst")
                case ["steady", count, milliseconds]:
                    await _steady(publish, int(count), int(milliseconds) / 1000)
                    answer("steady")
                case ["cpu"]:
                    usage = resource.getrusage(resource.RUSAGE_SELF)
                    answer("cpu", user_seconds=usage.ru_utime, system_seconds=usage.ru_stime)
                case ["memory"]:
                    gc.collect()
                    answer("memory", pss_bytes=_proportional_set_size())
                case ["probe", "start"]:
                    probe = await nursery.start(StallProbe.run)
                    answer("probe")
                case ["probe", "stop"]:
                    probe.stop()
                    answer("probe", **probe.figures())
                case ["quit"]:
                    return
                case _:
                    print(json.dumps({"reply": "refused", "error": f"no such command: {line}"}), flush=True)


def answer(name: str, **figures: float) -> None:
    """Answer a command with figures."""
    print(json.dumps({"reply": name, **figures}), flush=True)


async def _steady(publish: Publish, count: int, interval: float) -> None:
    start = trio.current_time()
    for index in range(1, count + 1):
        await publish()
        await trio.sleep_until(start + index * interval)


async def _lines() -> AsyncIterator[str]:
    # `trio.lowlevel.FdStream` would make stdin non-blocking for whoever shares it, a terminal for one.
    unread = b""
    while True:
        await trio.lowlevel.wait_readable(STDIN)
        received = os.read(STDIN, 4096)
        if not received:
            return
        *lines, unread = (unread + received).split(b"\n")
        for line in lines:
            yield line.decode()


def _proportional_set_size() -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no proportional set size")
