"""Subscriptions: replay, queues, and what a reader receives, in order.

It may import `_shared_log`, `_log`, `_wire` and the helper modules.
"""
