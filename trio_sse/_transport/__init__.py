"""Transports: what a connection writes to and reads from.

This package may import `_wire` and the ground modules.
"""
