"""The hub: topics, order, replay, fan-out and subscriptions.

It may import `_log`, `_wire` and the helper modules.
"""
