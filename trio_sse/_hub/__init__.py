"""The hub: topics, order, fan-out, intervals and tickers.

It may import `_subscription`, `_state`, `_shared_log`, `_log`, `_wire`, `_process` and the helper modules.
"""
