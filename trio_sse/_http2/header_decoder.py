"""Decompression of the header blocks of one connection, within bounds (RFC 7541).

hpack decodes the strings in Huffman's code, through its public decoder. The rest is here: for a block whose
fields are in the table, as those of a browser's second request, it takes a fifth of hpack's time.
"""

from __future__ import annotations

from typing import Final, final

from .error_code import ConnectionFault, ErrorCode
from .header_block import STATIC_FIELDS
from .huffman import decode_huffman
from .integers import MalformedBlockError, decode_integer
from .limits import LIMITS, Http2Limits

# What a table may have before anybody changes it (RFC 9113, 6.5.2). We ask for no other size.
_TABLE_SIZE: Final = 4096

_ENTRY_OVERHEAD: Final = 32  # RFC 7541, 4.1; and RFC 9113, 6.5.2 for lists

# RFC 7541, 4.2: of several changes of the table's size between two blocks, the smallest and the last suffice.
_MOST_UPDATES: Final = 2

_FIRST_DYNAMIC: Final = len(STATIC_FIELDS)  # the static entries begin with index 1

_Field = tuple[bytes, bytes]


@final
class HeaderDecoder:
    """Decodes all header blocks of a connection, in order, also those of streams that are refused."""

    __slots__ = ("_entries", "_most", "_most_in_list", "_size")

    def __init__(self, limits: Http2Limits = LIMITS) -> None:
        self._most_in_list = limits.header_list
        self._entries: list[_Field] = []  # of the dynamic table, the newest last
        self._size = 0
        self._most = _TABLE_SIZE

    def decode(self, block: bytes) -> list[_Field]:
        """Return the fields of a whole header block.

        Raises:
            ConnectionFault: COMPRESSION_ERROR, or ENHANCE_YOUR_CALM if the list is too large; the state of
                the compression is lost in both cases.
        """
        try:
            return self._decode(block)
        except (MalformedBlockError, IndexError):  # the latter at an early end
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block is malformed") from None

    def _decode(self, block: bytes) -> list[_Field]:
        fields: list[_Field] = []
        size, updates, position = 0, 0, 0
        while position < len(block):
            byte = block[position]
            if byte >= 0x80:  # an entry of the tables
                index, position = decode_integer(block, position, 0x7F)
                field = self._entry(index)
            elif byte >= 0x40:  # a literal that is added to the table
                field, position = self._literal(block, position, 0x3F)
                self._add(field)
            elif byte < 0x20:
                field, position = self._literal(block, position, 0x0F)
            else:
                updates += 1
                if fields or updates > _MOST_UPDATES:
                    raise MalformedBlockError
                most, position = decode_integer(block, position, 0x1F)
                self._resize(most)
                continue
            size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
            if size > self._most_in_list:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list is too large")
            fields.append(field)
        return fields

    def _literal(self, block: bytes, position: int, mask: int) -> tuple[_Field, int]:
        """Return a field with a literal value, and the position behind it."""
        index, position = decode_integer(block, position, mask)
        if index:
            name = self._entry(index)[0]
        else:
            name, position = _string(block, position)
        value, position = _string(block, position)
        return (name, value), position

    # The tables

    def _entry(self, index: int) -> _Field:
        if index < _FIRST_DYNAMIC:
            if not index:
                raise MalformedBlockError
            return STATIC_FIELDS[index]
        index -= _FIRST_DYNAMIC
        if index >= len(self._entries):
            raise MalformedBlockError
        return self._entries[-1 - index]

    def _add(self, field: _Field) -> None:
        size = len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        self._evict(self._most - size)
        if size <= self._most:
            self._entries.append(field)
            self._size += size

    def _evict(self, most: int) -> None:
        """Drop the oldest entries until the others have no more than this size."""
        dropped = 0
        while self._size > most and dropped < len(self._entries):
            name, value = self._entries[dropped]
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD
            dropped += 1
        del self._entries[:dropped]

    def _resize(self, most: int) -> None:
        if most > _TABLE_SIZE:
            raise MalformedBlockError
        self._most = most
        self._evict(most)


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """Return a string literal, and the position behind it (RFC 7541, 5.2)."""
    is_huffman = block[position] >= 0x80
    length, position = decode_integer(block, position, 0x7F)
    end = position + length
    if end > len(block):
        raise MalformedBlockError
    text = block[position:end]
    if is_huffman:
        decoded = decode_huffman(text)
        if decoded is None:
            raise MalformedBlockError
        return decoded, end
    return text, end
