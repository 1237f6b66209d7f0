"""What proxies say about clients, and whose word counts, as values and bytes, without I/O.

It may import `_http` and the helper modules, never Trio.
"""
