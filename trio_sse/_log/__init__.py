"""The event log in memory: its bounds, and what it keeps of each topic.

It may import `_wire` and the helper modules.
"""
