"""The event wire: events, messages, topics and frames as bytes, without I/O.

It may import the ground modules only, and never Trio.
"""
