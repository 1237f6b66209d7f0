"""From where the console answers: this machine, unless others are allowed.

What a proxy on this machine passes on comes from a loopback address, too. So every address that a request
names as its sender must be allowed: the one that counts as the client's, and each one in the fields that
proxies write, whether or not the proxy is trusted. A client that writes such fields itself can only be
refused more often.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import final

from .._http.request import Headers, Request
from .._proxies.addresses import parse_node
from .._proxies.trusted_proxies import UNIX, TrustedProxies

_LOOPBACK = ("127.0.0.0/8", "::1", UNIX)

_LISTS = ("x-forwarded-for", "x-real-ip", "true-client-ip", "cf-connecting-ip")
_ZONE = re.compile(r"%[^\]]*")  # of a link-local address
_FORWARDED_FOR = re.compile(r'\bfor\s*=\s*(?:"([^"]*)"|([^\s",;]*))', re.IGNORECASE)


@final
class AllowedPeers:
    """The clients that may use the console.

    Args:
        networks: addresses and networks besides this machine's own.
        proxies: those that may have passed a request on.

    Raises:
        TypeError, ValueError: the networks are not acceptable; see `TrustedProxies`.
    """

    def __init__(self, networks: Collection[str], proxies: TrustedProxies) -> None:
        TrustedProxies(networks, name="console_peers")  # which says what is wrong with them
        self._allowed = TrustedProxies((*_LOOPBACK, *networks))
        self._proxies = proxies

    def allow(self, request: Request) -> bool:
        """Whether all that a request says of its sender is allowed."""
        if not self._allowed.trusts(_host(request.peer)):
            return False
        return all(
            self._allowed.trusts(host) or self._proxies.trusts(host) for host in _named_hosts(request.headers)
        )


def _named_hosts(headers: Headers) -> list[str]:
    """Return the addresses that proxies have written; what is none of them, as it is."""
    values = [value for name in _LISTS for field in headers.get_all(name) for value in field.split(",")]
    for field in headers.get_all("forwarded"):
        found = _FORWARDED_FOR.findall(field)
        values += [quoted or plain for quoted, plain in found] or [field]
    return [_host(value.strip()) for value in values]


def _host(text: str) -> str:
    """Return the address in a text, without its port; a text without one as it is."""
    node = parse_node(_ZONE.sub("", text))
    return text if node is None else node.host
