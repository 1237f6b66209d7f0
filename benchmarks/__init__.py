"""What trio_sse costs: memory, set-up, fan-out and stalls, by itself and in an app.

See README.md; run with `python -m benchmarks`.
"""

from pathlib import Path

# `python -m benchmarks.fanout` runs scenarios/fanout.py.
__path__.append(str(Path(__file__).parent / "scenarios"))
