"""The process: its descriptors, its garbage collector, and what keeps its event loop.

It may import the standard library and Trio only.
"""
