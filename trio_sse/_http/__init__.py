"""HTTP/1.1 as values and bytes, without I/O: heads, fields, bodies, routes and responses.

It may import `_validate`. It never imports Trio.
"""
