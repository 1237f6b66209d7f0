"""Transports: what a connection writes to and reads from.

It may import `_wire` and the helper modules.
"""
