"""All benchmarks, one after the other; figures go to `benchmarks/results/` too."""

from __future__ import annotations

from . import fanout, idle_memory, quart, setup_cost, stall
from ._command_line import main
from ._harness import HERE

main(
    [idle_memory.BENCHMARK, setup_cost.BENCHMARK, fanout.BENCHMARK, stall.BENCHMARK, quart.BENCHMARK],
    results=HERE / "results",
)
