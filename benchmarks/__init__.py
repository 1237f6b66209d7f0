"""What trio_sse costs: memory, set-up, fan-out and stalls. See README.md; run with `python -m benchmarks`."""
