"""HTTP/1.1 as values and bytes, without I/O: heads, fields, bodies, routes and responses.

It may import `_validate`, the standard library and h11, never Trio.
"""
