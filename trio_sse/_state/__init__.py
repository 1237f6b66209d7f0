"""States and presence lists: their values, changes and snapshots, over shared logs as well.

It may import `_shared_log`, `_log`, `_wire` and the helper modules.
"""
