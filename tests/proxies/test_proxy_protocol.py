"""Headers of the PROXY protocol, versions 1 and 2."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse._proxies.proxy_protocol import (
    MAX_HEADER_SIZE,
    ProxyHeader,
    ProxyHeaderError,
    Speaker,
    parse_proxy_header,
)

from ..support.cases import each_case

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def v2(command: int, family: int, block: bytes, *, length: int | None = None) -> bytes:
    """Return a header of version 2."""
    size = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", size) + block


def usual(address: IPAddress) -> str:
    """Return an address as it is shown: one of IPv4 that is written as one of IPv6 is one of IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (
        str(mapped)
        if mapped
        else socket.inet_ntop(socket.AF_INET if address.version == 4 else socket.AF_INET6, address.packed)
    )


ports = st.integers(0, 65535)
v4, v6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
pairs = st.one_of(st.tuples(v4, v4), st.tuples(v6, v6))


def encode(version: int, pair: tuple[IPAddress, IPAddress], port: int, tlvs: bytes) -> bytes:
    """Return the header of a client at the pair's first address, in one of the two versions."""
    source, destination = pair
    if version == 1:
        return f"PROXY TCP{source.version} {source} {destination} {port} 443\r\n".encode()
    block = source.packed + destination.packed + struct.pack("!HH", port, 443)
    return v2(0x21, 0x11 if source.version == 4 else 0x21, block + tlvs)


@given(
    version=st.sampled_from([1, 2]), pair=pairs, port=ports, tlvs=st.binary(max_size=99), after=st.binary()
)
def test_the_addresses_of_a_client_are_read_and_what_follows_is_left(
    version: int, pair: tuple[IPAddress, IPAddress], port: int, tlvs: bytes, after: bytes
) -> None:
    header = encode(version, pair, port, tlvs)
    source, destination = pair
    assert parse_proxy_header(header + after) == ProxyHeader(
        len(header), Speaker.CLIENT, (usual(source), port), (usual(destination), 443)
    )


@given(version=st.sampled_from([1, 2]), pair=pairs, port=ports, tlvs=st.binary(max_size=20))
def test_each_beginning_of_a_header_waits_for_the_rest(
    version: int, pair: tuple[IPAddress, IPAddress], port: int, tlvs: bytes
) -> None:
    header = encode(version, pair, port, tlvs)
    assert [parse_proxy_header(header[:size]) for size in range(len(header))] == [None] * len(header)


@each_case(
    ("header", "speaker"),
    [
        (b"PROXY UNKNOWN\r\n", Speaker.UNKNOWN_CLIENT),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Speaker.UNKNOWN_CLIENT),
        (v2(0x20, 0x00, b""), Speaker.PROXY),
        (v2(0x20, 0x11, b"x" * 99), Speaker.PROXY),
        (v2(0x20, 0xFF, b""), Speaker.PROXY),
        (v2(0x21, 0x00, b""), Speaker.UNKNOWN_CLIENT),
        (v2(0x21, 0x00, b"\x04\0\x01x"), Speaker.UNKNOWN_CLIENT),
        (v2(0x21, 0x31, b"/run/a".ljust(216, b"\0") + b"\x04\0\0"), Speaker.UNIX_CLIENT),
    ],
)
def test_headers_without_an_address(header: bytes, speaker: Speaker) -> None:
    assert parse_proxy_header(header + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(header), speaker)


@each_case(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"proxy tcp4 1.2.3.4 1.2.3.5 1 2\r\n",
        b"PROXY  TCP4 1.2.3.4 1.2.3.5 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 1 2 \r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.5 65536 2\r\n",
        b"PROXY TCP4 1.2.3.04 1.2.3.5 1 2\r\n",
        b"PROXY TCP4 1.2.3 1.2.3.5 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.5 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.5 1 2\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN \0\r\n",
        b"PROXY UNKNOWN " + b"x" * 107,
        v2(0x11, 0x11, b"x" * 12),
        v2(0x22, 0x11, b"x" * 12),
        v2(0x21, 0x12, b"x" * 12),
        v2(0x21, 0x41, b"x" * 12),
        v2(0x21, 0x11, b"x" * 11),
        v2(0x21, 0x21, b"x" * 35),
        v2(0x21, 0x31, b"x" * 215),
        v2(0x21, 0x11, b"", length=MAX_HEADER_SIZE),
        v2(0x20, 0x11, b"", length=65535),
    ],
)  # fmt: skip
def test_anything_else_is_refused_at_once(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        parse_proxy_header(header)


def test_the_longest_header_is_accepted() -> None:
    block = b"x" * (MAX_HEADER_SIZE - 16)
    parsed = parse_proxy_header(v2(0x21, 0x11, block))
    assert parsed is not None
    assert parsed.size == MAX_HEADER_SIZE


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda rest: b"PROXY " + rest),
                 st.binary(max_size=300).map(lambda rest: SIGNATURE + rest)))  # fmt: skip
def test_whatever_arrives_is_refused_or_a_header_or_waits_within_its_bound(data: bytes) -> None:
    try:
        header = parse_proxy_header(data)
    except ProxyHeaderError:
        return
    if header is None:
        assert len(data) < MAX_HEADER_SIZE
    else:
        assert header.size <= len(data)
        assert parse_proxy_header(data[: header.size]) == header
