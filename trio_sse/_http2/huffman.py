"""String literals in Huffman's code, as hpack's public encoder writes them (RFC 7541, 5.2)."""

from __future__ import annotations

from functools import lru_cache

# Before the value: a literal that is never indexed, with a new name, which is empty. So the encoder's state
# does not change.
_BEFORE_VALUE = b"\x10\x80"

_CACHE_SIZE = 256  # the names and values of heads repeat; only dates and lengths are new each time


@lru_cache(maxsize=_CACHE_SIZE)
def huffman_literal(text: bytes) -> bytes:
    """Return a string literal, with its length, in Huffman's code."""
    import hpack  # the extra

    encoded = hpack.Encoder().encode([(b"", text, True)], huffman=True)
    return encoded.removeprefix(_BEFORE_VALUE)
