"""Run the benchmarks one after the other, and write the results to `benchmarks/results/`.

`python -m benchmarks` takes about 15 minutes. With `--full` it takes two hours: it then also measures the
growth, the other servers, the peers and the shared log.
"""

from __future__ import annotations

import sys

from benchmarks.harness.command_line import main
from benchmarks.harness.paths import RESULTS
from benchmarks.scenarios import (
    apps,
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
FULL = [*BRIEF, growth.BENCHMARK, quart.BENCHMARK, apps.BENCHMARK, compare.BENCHMARK, shared_log.BENCHMARK]

if "--full" in sys.argv:
    sys.argv.remove("--full")
    main(FULL, results=RESULTS)
else:
    main(BRIEF, results=RESULTS)
