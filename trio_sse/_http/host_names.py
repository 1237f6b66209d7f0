"""The host names that a server serves, as an option has them and as requests name them (RFC 3986, 3.2.2)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from .request_head import HOST_NAME

# A name as requests can have it, whose checks allow a few characters more than DNS, encoded ones too. `*` is
# allowed in a URL, but in an option it would be taken for a wildcard.
_NAME = re.compile(HOST_NAME)


def host_names(option: str, hosts: Collection[str]) -> frozenset[str]:
    """Return the hosts of an option in the form of `canonical_host`.

    Args:
        option: the option's name, for errors.

    Raises:
        TypeError: the hosts are one `str`, or not strings.
        ValueError: there is none, or one that no request can name.
    """
    if isinstance(hosts, str):
        raise TypeError(f"{option} must be a collection of host names, not one str")
    if not hosts:
        raise ValueError(f"{option} must have a host; leave it out to allow all")
    return frozenset(_host_name(option, host) for host in hosts)


def _host_name(option: str, host: object) -> str:
    if not isinstance(host, str):
        raise TypeError(f"{option} must have strings, not {type(host).__name__}")
    address = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in address and "%" not in address:  # no zone: that is for this machine's own use (RFC 6874, 1)
        try:
            return f"[{ipaddress.IPv6Address(address)}]"
        except ValueError:
            pass  # a URL, or a name with a port
    if advice := _advice(host):
        raise ValueError(f"{option} cannot match {host!r}: {advice}")
    return canonical_host(host)


def _advice(host: str) -> str:
    """Return how to write a host that no request can name; empty if it is well."""
    if not host:
        return "a host name is not empty"
    if "/" in host:
        return "write the host name alone, without a scheme and a path"
    if "*" in host:
        return "there are no wildcards: list the names, or leave the option out to allow all"
    if ":" in host:
        return "write the name without its port: every port matches"
    if not host.isascii():
        return "write an international name as requests have it, in ASCII (xn--...)"
    if not _NAME.fullmatch(host) or host == ".":
        return "it has characters that are not allowed in a host name"
    return ""


def canonical_host(host: str) -> str:
    """Return a request's host in the form in which equal hosts are equal.

    A name has lower case and no dot at its end, which only says that it is absolute (RFC 1034, 3.1). An IPv6
    address, in brackets, has its shortest form (RFC 5952).
    """
    host = host.lower()
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            return host
    return host.removesuffix(".")
