"""PROXY headers: once decided, what follows changes nothing; addresses are those that `ipaddress` reads."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from trio_sse._proxies.proxy_protocol import (
    MAX_HEADER_SIZE,
    ProxyHeader,
    ProxyHeaderError,
    Speaker,
    parse_proxy_header,
)

from ...corpus import case


def seeds() -> Iterator[bytes]:
    for one in case.read("proxy_protocol")[1]:
        yield one.raw


def check(data: bytes) -> None:
    found = _parse(data)
    is_decided = False
    for size in range(1, min(len(data), 300) + 1):
        part = _parse(data[:size])
        if part is not None:
            assert part == found, (size, part, found)
            is_decided = True
        else:
            assert not is_decided
    if isinstance(found, ProxyHeader):
        assert _parse(data[: found.size]) == found and found.size <= min(len(data), MAX_HEADER_SIZE)
        assert _parse(data[: found.size - 1]) is None
        _check(found)
        if data.startswith(b"PROXY TCP"):
            _check_line(found, data[: found.size])
    elif found is None:
        assert len(data) < MAX_HEADER_SIZE


def _parse(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse_proxy_header(data)
    except ProxyHeaderError:
        return "refused"


def _check(header: ProxyHeader) -> None:
    assert (header.source is None) == (header.destination is None) == (header.speaker is not Speaker.CLIENT)
    for address in filter(None, (header.source, header.destination)):
        assert str(_unmapped(address[0])) == address[0] or "." in address[0]
        assert 0 <= address[1] < 65536


def _check_line(header: ProxyHeader, line: bytes) -> None:
    _, family, source, destination, source_port, destination_port = line.decode("ascii").split()
    kind = ipaddress.IPv4Address if family == "TCP4" else ipaddress.IPv6Address
    for found, address, port in (
        (header.source, source, source_port),
        (header.destination, destination, destination_port),
    ):
        assert found is not None
        assert ipaddress.ip_address(found[0]) == _unmapped(str(kind(address))) and str(found[1]) == port


def _unmapped(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
