"""`trio-sse serve`: the target, addresses, signals, and workers.

It may import the public modules and the packages below them.
"""
