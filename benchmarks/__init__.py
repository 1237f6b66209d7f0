"""What trio_sse costs: memory, set-up, fan-out and stalls, by itself and in an app.

See README.md; run with `python -m benchmarks`.
"""
