"""A stream's life: its scope, writes, keepalives and end.

It may import `_hub`, `_log`, `_transport`, `_http`, `_wire` and the helper modules.
"""
