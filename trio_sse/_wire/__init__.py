"""The event wire: events, messages, topics and frames as bytes, without I/O.

It may import the helper modules (`_validate`, `_backoff`, ...), and never Trio.
"""
