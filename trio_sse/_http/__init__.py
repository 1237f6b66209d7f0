"""HTTP/1.1 as values and bytes: heads, fields, routes and responses, without I/O.

It may import `_wire` values and `_validate`, and never Trio.
"""
