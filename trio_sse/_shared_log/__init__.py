"""Logs that hubs share: the protocol, and a hub's part in such a log.

It may import `_log`, `_wire`, `_process` and the helper modules.
"""
