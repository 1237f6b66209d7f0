"""The PROXY protocol, versions 1 and 2: a header before everything else that a proxy sends on a connection.

The header says who the client is. It is parsed strictly: a peer that sends anything else is no proxy of ours,
or speaks another protocol. The specification is HAProxy's `proxy-protocol.txt`.
"""

from __future__ import annotations

import enum
import re
import socket
import struct
from dataclasses import dataclass
from typing import final

from .addresses import HostAndPort, unmap, unpack_address

#: The longest header that is accepted, with what may follow the addresses in version 2; nginx's bound.
MAX_HEADER_SIZE = 4096

_V1_START = b"PROXY "
_V1_MAX_SIZE = 107
_V1 = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]{1,5}) ([0-9]{1,5})")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?")

_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_START_SIZE = 16
_V2_LOCAL, _V2_PROXY = 0x20, 0x21  # the version and the command
_V2_UNKNOWN, _V2_TCP4, _V2_TCP6, _V2_UNIX = 0x00, 0x11, 0x21, 0x31  # the family, and streams
_V2_ADDRESSES = {_V2_TCP4: struct.Struct("!4s4sHH"), _V2_TCP6: struct.Struct("!16s16sHH")}
_V2_UNIX_SIZE = 216


class ProxyHeaderError(ValueError):
    """What was sent is not the header of a proxy."""


class Speaker(enum.Enum):
    """Who speaks on the connection, after the header."""

    CLIENT = enum.auto()
    """A client with an address."""
    UNIX_CLIENT = enum.auto()
    """A client that is connected to the proxy by a Unix socket."""
    UNKNOWN_CLIENT = enum.auto()
    """A client, of which the proxy does not say anything."""
    PROXY = enum.auto()
    """The proxy itself, which checks whether the server works, for example."""


@final
@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header.

    Attributes:
        size: how many bytes it has.
        speaker: who speaks on the connection.
        source, destination: the client, and what it has connected to, if it has an address.
    """

    size: int
    speaker: Speaker
    source: HostAndPort | None = None
    destination: HostAndPort | None = None


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Parse the header at the start of `data`; return `None` if all of `data` belongs to an incomplete one.

    Raises:
        ProxyHeaderError: it is no header, or not one that can be accepted.
    """
    start = data[: len(_V2_SIGNATURE)]
    if _V2_SIGNATURE.startswith(start):
        return _parse_v2(data)
    if data[: len(_V1_START)] == _V1_START[: len(data)]:
        return _parse_v1(data)
    raise ProxyHeaderError("the connection does not begin with a PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    line, line_feed, _ = data[:_V1_MAX_SIZE].partition(b"\n")
    if not line_feed:
        if len(data) >= _V1_MAX_SIZE:
            raise ProxyHeaderError("the PROXY header is too long")
        return None
    size = len(line) + 1
    if not line.endswith(b"\r"):
        raise ProxyHeaderError("the PROXY header must end with CRLF")
    line = line[:-1]
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(size, Speaker.UNKNOWN_CLIENT)
    match = _V1.fullmatch(line)
    if match is None:
        raise ProxyHeaderError("the PROXY header is malformed")
    version, source, destination, source_port, destination_port = match.groups()
    family = socket.AF_INET if version == b"4" else socket.AF_INET6
    return ProxyHeader(
        size,
        Speaker.CLIENT,
        (_parse_v1_address(family, source), _parse_v1_port(source_port)),
        (_parse_v1_address(family, destination), _parse_v1_port(destination_port)),
    )


def _parse_v1_address(family: socket.AddressFamily, text: bytes) -> str:
    try:
        return unpack_address(unmap(socket.inet_pton(family, text.decode("ascii"))))
    except OSError:
        raise ProxyHeaderError("the PROXY header has a malformed address") from None


def _parse_v1_port(text: bytes) -> int:
    port = int(text)
    if port > 65535 or text != b"%d" % port:
        raise ProxyHeaderError("the PROXY header has a malformed port")
    return port


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_START_SIZE:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16])
    if command not in (_V2_LOCAL, _V2_PROXY):
        raise ProxyHeaderError("the PROXY header has an unknown version or command")
    size = _V2_START_SIZE + length
    if size > MAX_HEADER_SIZE:
        raise ProxyHeaderError("the PROXY header is too long")
    if len(data) < size:
        return None
    if command == _V2_LOCAL:
        return ProxyHeader(size, Speaker.PROXY)  # the rest of it is to be ignored
    if family == _V2_UNKNOWN:
        return ProxyHeader(size, Speaker.UNKNOWN_CLIENT)
    if family == _V2_UNIX and length >= _V2_UNIX_SIZE:
        return ProxyHeader(size, Speaker.UNIX_CLIENT)
    addresses = _V2_ADDRESSES.get(family)
    if addresses is None or length < addresses.size:
        raise ProxyHeaderError("the PROXY header has an unknown family, or is too short for it")
    source, destination, *ports = addresses.unpack_from(data, _V2_START_SIZE)
    return ProxyHeader(
        size,
        Speaker.CLIENT,
        (unpack_address(unmap(source)), ports[0]),
        (unpack_address(unmap(destination)), ports[1]),
    )
