"""Whether memory, descriptors, tasks and CPU time grow over a million connections of every kind.

Run it with `python -m benchmarks.soak`.
"""
