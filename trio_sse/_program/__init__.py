"""What `trio-sse serve` and `trio-sse demo` run: the target, its addresses, its certificates, and signals.

It may import the public modules and the packages below them.
"""
