"""Which peers are trusted, in all spellings of their addresses."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_sse._proxies.addresses import pack_address, parse_node
from trio_sse._proxies.trusted_proxies import TrustedProxies

from ..support.cases import each_case

PROXIES = TrustedProxies(["192.0.2.1", "10.0.0.0/8", "2001:db8::/32", "fe80::1", "::ffff:198.51.100.0/120"])


@each_case(
    "host",
    [
        "192.0.2.1",
        "192.0.2.1:4711",
        "10.255.0.1",
        "::ffff:10.0.0.1",
        "2001:DB8:0::ffff",
        "[2001:db8::1]:80",
        "fe80::1%eth0",
        "198.51.100.7",
    ],
)
def test_an_address_is_trusted_in_each_of_its_spellings(host: str) -> None:
    assert PROXIES.trusts(host)


@each_case(
    "host",
    [
        "192.0.2.2",
        "11.0.0.0",
        "2001:db9::",
        "fe80::2",
        "198.51.101.0",
        "0x0a000001",
        "10.1",
        "010.0.0.1",
        "10.0.0.1 ",
        "10.0.0.1\0",
        "unix",
        "stream",
        "",
    ],
)
def test_anything_else_is_not_trusted(host: str) -> None:
    assert not PROXIES.trusts(host)


def test_peers_of_unix_sockets_are_trusted_by_a_word() -> None:
    assert TrustedProxies(["unix"]).trusts("unix")
    assert not TrustedProxies(["unix"]).trusts("127.0.0.1")


def test_without_proxies_nobody_is_trusted() -> None:
    assert not TrustedProxies([])
    assert not TrustedProxies([]).trusts("127.0.0.1")


@each_case("proxy", ["", "*", "localhost", "10.0.0.1/8", "10.0.0.0/33", "UNIX", "10.0.0.0-9"])
def test_what_is_no_address_is_refused(proxy: str) -> None:
    with pytest.raises(ValueError, match="must be an address, a network"):
        TrustedProxies([proxy])


@each_case("proxies", ["10.0.0.1", b"10.0.0.1", [10], [None]])
def test_what_is_no_collection_of_text_is_refused(proxies: object) -> None:
    with pytest.raises(TypeError):
        TrustedProxies(proxies)  # type: ignore[arg-type]


addresses = st.ip_addresses()


@given(address=addresses, network=addresses, length=st.integers(0, 128))
def test_networks_hold_what_the_standard_library_says(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    network: ipaddress.IPv4Address | ipaddress.IPv6Address,
    length: int,
) -> None:
    for either in (address, network):  # to us, a mapped one is IPv4
        assume(not (isinstance(either, ipaddress.IPv6Address) and either.ipv4_mapped))
    held = ipaddress.ip_network((network, min(length, network.max_prefixlen)), strict=False)
    assert TrustedProxies([str(held)]).trusts(str(address)) == (address in held)


@given(address=addresses, port=st.integers(0, 65535))
def test_addresses_and_ports_are_parsed_as_they_are_written(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    node = parse_node(text)
    assert node is not None
    assert (ipaddress.ip_address(node.packed), node.port) == (ipaddress.ip_address(node.host), port)
    assert node.packed == pack_address(str(address))


@each_case(
    "text",
    [
        "1.2.3.4:",
        "1.2.3.4:65536",
        "[::1",
        "::1]",
        "[1.2.3.4]",
        "1.2.3",
        "::1%lo",
        "[::1]:x",
        ":80",
        "_hidden",
    ],
)
def test_what_is_no_address_and_port_is_nobody(text: str) -> None:
    assert parse_node(text) is None
