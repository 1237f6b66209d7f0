"""What `trio-sse serve` and `trio-sse demo` run: the target, its addresses, signals, and workers.

It may import the public modules and the packages below them.
"""
