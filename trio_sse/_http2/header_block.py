"""Header blocks that depend on no connection's state (RFC 7541), so that many streams can share them.

A field that the static table has is one byte. Others are literals, whose name is an index where the static
table has it. Nothing is ever added to the peer's dynamic table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .huffman import huffman_literal
from .integers import encode_integer

# RFC 7541, appendix A: the names from index 1 on, with their values where they have one.
_STATIC_TABLE: Final = (
    ":authority",
    ":method: GET",
    ":method: POST",
    ":path: /",
    ":path: /index.html",
    ":scheme: http",
    ":scheme: https",
    ":status: 200",
    ":status: 204",
    ":status: 206",
    ":status: 304",
    ":status: 400",
    ":status: 404",
    ":status: 500",
    "accept-charset",
    "accept-encoding: gzip, deflate",
    *("accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow"),
    *("authorization", "cache-control", "content-disposition", "content-encoding", "content-language"),
    *("content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag"),
    *("expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range"),
    *("if-unmodified-since", "last-modified", "link", "location", "max-forwards", "proxy-authenticate"),
    *("proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie"),
    *("strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate"),
)


#: The static table: the entry with index 1 is the first one after the empty one.
STATIC_FIELDS: Final = (
    (b"", b""),
    *((name, value) for name, _, value in (entry.encode().partition(b": ") for entry in _STATIC_TABLE)),
)


def _index_table() -> tuple[dict[bytes, int], dict[tuple[bytes, bytes], int]]:
    names: dict[bytes, int] = {}
    fields: dict[tuple[bytes, bytes], int] = {}
    for index, (name, value) in enumerate(STATIC_FIELDS[1:], 1):
        names.setdefault(name, index)
        if value:
            fields[name, value] = index
    return names, fields


_NAMES, _FIELDS = _index_table()

# Their values are credentials: nobody on the way may put them into a table either (RFC 7541, 7.1.3).
_SENSITIVE: Final = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"))

#: The start of a block that says that the dynamic table has no bytes from now on (RFC 7541, 6.3).
EMPTY_TABLE: Final = b"\x20"

_INDEXED: Final = 0x80
_NOT_INDEXED: Final = 0x00
_NEVER_INDEXED: Final = 0x10


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the header block of these fields, whose names are in lower case."""
    block = bytearray()
    for name, value in fields:
        index = _FIELDS.get((name, value))
        if index is not None:
            block += encode_integer(index, 7, _INDEXED)
            continue
        form = _NEVER_INDEXED if name in _SENSITIVE else _NOT_INDEXED
        index = _NAMES.get(name)
        block += encode_integer(index or 0, 4, form)
        if index is None:
            block += encode_literal(name)
        block += encode_literal(value)
    return bytes(block)


def encode_literal(text: bytes) -> bytes:
    """Return a string literal, with Huffman's code where that is shorter (RFC 7541, 5.2)."""
    coded = huffman_literal(text)
    plain = encode_integer(len(text), 7, 0)
    return coded if len(coded) < len(plain) + len(text) else plain + text
