"""The event log: in memory, and shared between hubs.

It may import `_wire` and the helper modules.
"""
