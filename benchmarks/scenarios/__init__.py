"""The scenarios, one a file. Each is a program, too: `python -m benchmarks.fanout` runs `fanout.py`."""
