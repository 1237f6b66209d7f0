"""HTTP/2 without I/O: frames, header blocks, heads and bounds. May import `_http`, and never trio.

Only `header_decoder` and `huffman` need the extra `http2`, and import it when they are used first.
"""
