"""The process: its file descriptors, its garbage collector, and a watchdog over its event loop.

It may import the standard library and Trio only.
"""
