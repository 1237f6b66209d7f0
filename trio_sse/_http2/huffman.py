"""Strings in Huffman's code, as hpack's public encoder and decoder know it (RFC 7541, 5.2)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .integers import encode_integer

if TYPE_CHECKING:
    import hpack

# Before the value: a literal that is never indexed, with a new name, which is empty. So the state of hpack's
# encoder or decoder does not change.
_BEFORE_VALUE: Final = b"\x10\x80"

_CACHE_SIZE: Final = 256  # the names and values of heads repeat; only dates and lengths are new each time

# Clients send the same few strings with each connection, such as the name of the browser.
_CACHED_CODES: Final = 512
_LARGEST_CACHED: Final = 512

_MOST_BYTES: Final = 1 << 24  # more than any header block may have


@lru_cache(maxsize=_CACHE_SIZE)
def huffman_literal(text: bytes) -> bytes:
    """Return a string literal, with its length, in Huffman's code."""
    import hpack  # the extra

    encoded = hpack.Encoder().encode([(b"", text, True)], huffman=True)
    return encoded.removeprefix(_BEFORE_VALUE)


def decode_huffman(code: bytes) -> bytes | None:
    """Return the string that this is the code of; `None` if it is none."""
    return _decode_cached(code) if len(code) <= _LARGEST_CACHED else _decode(code)


@lru_cache(maxsize=1)
def _decoder() -> hpack.Decoder:
    import hpack

    return hpack.Decoder(_MOST_BYTES)


def _decode(code: bytes) -> bytes | None:
    import hpack

    length = encode_integer(len(code), 7, 0x80)
    try:
        ((_, value),) = _decoder().decode(_BEFORE_VALUE + length + code, raw=True)
    except hpack.HPACKError:
        return None
    assert isinstance(value, bytes)
    return value


_decode_cached = lru_cache(maxsize=_CACHED_CODES)(_decode)
