"""Benchmarks, one after the other; figures go to `benchmarks/results/`, too.

`python -m benchmarks` takes some 15 minutes; with `--full`, it runs the growth, the other hosts, the peers
and the shared log as well, which takes two hours.
"""

from __future__ import annotations

import sys

from benchmarks.harness.command_line import main
from benchmarks.harness.worker import HERE
from benchmarks.scenarios import (
    compare,
    fanout,
    growth,
    idle_memory,
    latency,
    own_events,
    quart,
    reconnect_storm,
    setup_cost,
    shared_log,
    slow_readers,
    stall,
    tls,
    topics,
)

BRIEF = [
    idle_memory.BENCHMARK,
    setup_cost.BENCHMARK,
    fanout.BENCHMARK,
    latency.BENCHMARK,
    stall.BENCHMARK,
    topics.BENCHMARK,
    own_events.BENCHMARK,
    slow_readers.BENCHMARK,
    reconnect_storm.BENCHMARK,
    tls.BENCHMARK,
]
FULL = [*BRIEF, growth.BENCHMARK, quart.BENCHMARK, compare.BENCHMARK, shared_log.BENCHMARK]

if "--full" in sys.argv:
    sys.argv.remove("--full")
    main(FULL, results=HERE / "results")
else:
    main(BRIEF, results=HERE / "results")
