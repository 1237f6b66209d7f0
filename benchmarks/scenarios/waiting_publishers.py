"""Is a publisher that waits for room as cheap among many? `python -m benchmarks.waiting_publishers`.

All of them publish one event at the same moment to a hub whose inbox has room for 64. The process has no
clients; its CPU time is measured.
"""

from __future__ import annotations

import time

import trio

from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.turns import FEWER, among_fewer_and_most
from trio_sse import Hub, tune_garbage_collector

INBOX = 64

#: What one publisher among the most may cost, relative to one among a tenth of them. Each is a task, and ten
#: times the tasks do not fit into the CPU's caches.
TARGET_RATIO = 2.0

UNIT = "us of CPU per publisher"


async def measure(settings: Settings) -> list[Measurement]:
    tune_garbage_collector()  # as `trio-sse serve` does
    return await among_fewer_and_most(settings, _publish, "wait", UNIT, TARGET_RATIO)


async def _publish(publishers: int) -> float:
    hub = Hub(inbox=INBOX)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        began = time.process_time()
        async with trio.open_nursery() as waiting:
            for number in range(publishers):
                waiting.start_soon(hub.publish, "topic", number)
        used = time.process_time() - began
        nursery.cancel_scope.cancel()
    return used / publishers * 1e6


BENCHMARK = Benchmark("waiting publishers", 10_000, measure, fewest=FEWER)

if __name__ == "__main__":
    main([BENCHMARK])
