"""Integers in header blocks (RFC 7541, 5.1)."""

from __future__ import annotations

_LARGEST_SHIFT = 28  # nothing that a block may have needs more than 32 bits


class MalformedBlockError(Exception):
    """A header block is not one of RFC 7541."""


def encode_integer(value: int, prefix_bits: int, form: int) -> bytes:
    """Return an integer whose first byte has `form` in the bits before its prefix (RFC 7541, 5.1)."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((form | value,))
    encoded = bytearray((form | most,))
    value -= most
    while value >= 0x80:
        encoded.append(0x80 | (value & 0x7F))
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """Return an integer whose first byte has these bits, and the position behind it.

    Raises:
        MalformedBlockError: it is too large.
        IndexError: it is incomplete.
    """
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > _LARGEST_SHIFT:
            raise MalformedBlockError
