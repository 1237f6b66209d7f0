"""The control of a measured asyncio server: commands on stdin, answers on stdout; see `harness/control.py`.

It runs in the peers' own environment, and imports nothing from trio_sse.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Callable

DATA = "x" * 100

#: Publishes one event to all clients.
Publish = Callable[[str], None]


class Gate:
    """Lets all handlers of /own send a number of events."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[int]] = []

    async def wait(self) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return await future

    def open(self, count: int) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(count)


gate = Gate()


async def run_commands(port: int, publish: Publish) -> None:
    """Print the server's port, then run commands until `quit` or the end of stdin."""
    answer("listening", port=port)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        match line.split():
            case ["burst", count]:
                for _ in range(int(count)):
                    publish(DATA)
                answer("burst")
            case ["steady" | "stamped" as name, count, milliseconds]:
                start, interval = loop.time(), int(milliseconds) / 1000
                for index in range(1, int(count) + 1):
                    publish(DATA if name == "steady" else f"{time.monotonic_ns():020}".ljust(len(DATA), "x"))
                    await asyncio.sleep(start + index * interval - loop.time())
                answer(name)
            case ["own", count]:
                gate.open(int(count))
                answer("own")
            case ["cpu"]:
                usage = resource.getrusage(resource.RUSAGE_SELF)
                answer("cpu", user_seconds=usage.ru_utime, system_seconds=usage.ru_stime)
            case ["memory"]:
                gc.collect()
                answer("memory", pss_bytes=_proportional_set_size())
            case ["quit"]:
                return
            case _:
                print(json.dumps({"reply": "refused", "error": f"no such command: {line}"}), flush=True)


def answer(name: str, **values: float) -> None:
    print(json.dumps({"reply": name, **values}), flush=True)


def _proportional_set_size() -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
