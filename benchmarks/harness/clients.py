"""The clients of a service: many streams, spread over several loads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import final

import trio

from benchmarks.harness.subjects import load
from benchmarks.harness.worker import BenchmarkError, Reply, Worker

#: The most streams of one process, server or load. It may have 20,000 descriptors.
MOST_STREAMS = 19_000


@final
class Clients:
    """Streams, spread over several loads. Only `clients` creates it."""

    def __init__(self, loads: Sequence[Worker], streams: int) -> None:
        self._loads = loads
        share, more = divmod(streams, len(loads))
        self._counts = [share + (index < more) for index in range(len(loads))]
        self.streams = streams

    async def connect(self) -> None:
        """Open all streams."""

        async def connect(worker: Worker, count: int) -> None:
            reply = await worker.ask(f"connect {count}")
            if reply["connected"] != count:
                raise BenchmarkError(f"{reply['connected']:.0f} streams opened instead of {count}")

        async with trio.open_nursery() as nursery:
            for worker, count in zip(self._loads, self._counts, strict=True):
                nursery.start_soon(connect, worker, count)

    async def total(self, name: str) -> int:
        """Return the sum of a counter over all loads, since they started."""
        return sum([int((await worker.ask("report"))[name]) for worker in self._loads])

    @asynccontextmanager
    async def receiving(self, events: int) -> AsyncIterator[list[Reply]]:
        """Expect `events` on each stream, which are published within the context.

        The context ends when all have been received. The list then has the reply of each load.

        Raises:
            BenchmarkError: a stream has not received each event exactly once and in order.
        """
        for worker, count in zip(self._loads, self._counts, strict=True):
            await worker.ask(f"expect {count * events}")
        replies: list[Reply] = []
        yield replies
        for worker, count in zip(self._loads, self._counts, strict=True):
            reply = await worker.reply()
            exact = {
                "events": count * events,
                "fewest_per_stream": events,
                "most_per_stream": events,
                "id_gaps": 0,
            }
            for name, value in exact.items():
                if reply[name] != value:
                    raise BenchmarkError(f"{name} is {reply[name]:.0f}, not {value}")
            replies.append(reply)


@asynccontextmanager
async def clients(port: int, streams: int, *, patience: float = 600.0) -> AsyncIterator[Clients]:
    """Run as many loads as the streams need. Their streams reconnect when they are disconnected."""
    async with AsyncExitStack() as stack:
        loads = []
        for number in range(-(-streams // MOST_STREAMS)):
            options = ("--reconnect", "--source", f"{number}", "--patience", f"{patience:.0f}")
            worker = await stack.enter_async_context(load(port, 0, *options, core=None))
            worker.patience = patience + 30
            loads.append(worker)
        yield Clients(loads, streams)
