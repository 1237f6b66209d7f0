"""The event wire: events, messages, topics and frames as bytes, without I/O.

It may import `_validate` only, and never Trio.
"""
