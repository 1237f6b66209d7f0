"""Which peers are trusted proxies."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import final

from .addresses import MAPPED_PREFIX, parse_node

#: The word for the peers of Unix sockets, which have no address.
UNIX = "unix"

_MAPPED_BITS = 8 * len(MAPPED_PREFIX)


@final
class TrustedProxies:
    """The addresses and networks of the proxies whose word counts.

    Args:
        proxies: addresses and networks, like `192.0.2.1`, `10.0.0.0/8` or `fd00::/8`; and `unix` for the
            peers of Unix sockets.
        name: the option's, for what is raised.

    Raises:
        TypeError: the proxies are one `str`, or one of them is no `str`.
        ValueError: one of them is neither an address nor a network.
    """

    def __init__(self, proxies: Collection[str], *, name: str = "trusted_proxies") -> None:
        if isinstance(proxies, str | bytes):
            raise TypeError(f"{name} must be a collection of addresses, not one str")
        what = "a trusted proxy" if name == "trusted_proxies" else f"an address of {name}"
        addresses: set[bytes] = set()
        networks: dict[tuple[int, int, int], None] = {}
        for proxy in proxies:
            if not isinstance(proxy, str):
                raise TypeError(f"{what} must be a str, not {type(proxy).__name__}")
            if proxy == UNIX:
                continue
            network = _parse_network(proxy, what)
            if network.num_addresses == 1:
                addresses.add(network.network_address.packed)
            else:
                size = network.max_prefixlen // 8
                networks[size, int(network.netmask), int(network.network_address)] = None
        self.trusts_unix = UNIX in proxies
        self._addresses = frozenset(addresses)
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return self.trusts_unix or bool(self._addresses or self._networks)

    def trusts(self, host: str) -> bool:
        """Return whether a peer is trusted: an address, `unix`, or any other text, which is not."""
        if host == UNIX:
            return self.trusts_unix
        node = parse_node(host.partition("%")[0])  # without the zone of a link-local address
        return node is not None and self.trusts_address(node.packed)

    def trusts_address(self, packed: bytes) -> bool:
        """Return whether an address, as bytes, is a trusted proxy's."""
        if packed in self._addresses:
            return True
        size, number = len(packed), int.from_bytes(packed)
        return any(size == length and number & mask == network for length, mask, network in self._networks)


def _parse_network(proxy: str, what: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(proxy)
    except ValueError as error:
        raise ValueError(
            f"{what} must be an address, a network like 10.0.0.0/8, or 'unix', not {proxy!r}: {error}"
        ) from None
    if network.prefixlen >= _MAPPED_BITS and network.network_address.packed.startswith(MAPPED_PREFIX):
        packed = network.network_address.packed[len(MAPPED_PREFIX) :]
        return ipaddress.IPv4Network((packed, network.prefixlen - _MAPPED_BITS))
    return network
