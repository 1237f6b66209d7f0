"""Addresses, as the system and as proxies write them.

They are compared as bytes, since one address has many spellings. An address of IPv4 that is written as one of
IPv6 (`::ffff:192.0.2.1`) is the one of IPv4.
"""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

#: An address or a host, and a port; 0 if the port is not known.
HostAndPort = tuple[str, int]

#: The first bytes of an address of IPv4 that is written as one of IPv6.
MAPPED_PREFIX = bytes(10) + b"\xff\xff"

# `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80` or `2001:db8::1`. A port may also be hidden
# behind a word that begins with an underscore (RFC 7239, 6.3). The system checks the address itself.
_NODE = re.compile(
    r"(?:([0-9.]{7,15})|\[(?!\d+\.)([0-9A-Fa-f:.]{2,45})\])(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]{1,64}))?"
    r"|([0-9A-Fa-f:.]{2,45})"
)


class Node(NamedTuple):
    """A client or a proxy, as a proxy has written it.

    Attributes:
        packed: the address as 4 or 16 bytes.
        host: the address in its usual spelling.
        port: 0 if it is not known.
    """

    packed: bytes
    host: str
    port: int


def pack_address(text: str) -> bytes | None:
    """Return an address as 4 or 16 bytes, or `None` if the text is none."""
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return None
    return unmap(packed)


def unmap(packed: bytes) -> bytes:
    """Return an address, which is one of IPv4 if it was written as one of IPv6."""
    if len(packed) == 16 and packed.startswith(MAPPED_PREFIX):
        return packed[len(MAPPED_PREFIX) :]
    return packed


def unpack_address(packed: bytes) -> str:
    """Return the usual spelling of an address."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def parse_node(text: str) -> Node | None:
    """Parse an address, with or without a port; return `None` if the text is none."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    packed = pack_address(match[1] or match[2] or match[4])
    port = int(match[3] or 0)
    if packed is None or port > 65535:
        return None
    return Node(packed, unpack_address(packed), port)
