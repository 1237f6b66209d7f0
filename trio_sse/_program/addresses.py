"""Addresses as they are written on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from .errors import ProgramError

_UNIX = "unix:"
_DESCRIPTOR = "fd://"


@final
@dataclass(frozen=True, slots=True)
class TCPAddress:
    """A port of a host, or of all addresses if the host is `None`."""

    host: str | None
    port: int


@final
@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket's path."""

    path: str


@final
@dataclass(frozen=True, slots=True)
class DescriptorAddress:
    """A listening socket that this process has inherited."""

    number: int


def parse_address(address: str) -> TCPAddress | UnixAddress | DescriptorAddress:
    """Parse `host:port`, `[host]:port`, `:port` (all addresses), `host`, `unix:path` or `fd://number`.

    Raises:
        ProgramError: it is none of these.
    """
    if address.startswith(_UNIX):
        path = address.removeprefix(_UNIX)
        if path.startswith("//"):  # unix:///run/app.sock, as in URLs
            path = path.removeprefix("//")
        if not path or "\0" in path:
            raise ProgramError(f"{address!r} is not like unix:/run/app.sock")
        return UnixAddress(path)
    if address.startswith(_DESCRIPTOR):
        number = address.removeprefix(_DESCRIPTOR)
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise ProgramError(f"{address!r} is not like fd://3")
        return DescriptorAddress(int(number))
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, "8000"
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536
    if not (address and is_port) or (":" in host and host[0] != "["):
        raise ProgramError(
            f"{address!r} is not like 127.0.0.1:8000, [::1]:8000, :8000, unix:/run/app.sock or fd://3"
        )
    return TCPAddress(host.strip("[]") or None, int(port))


def describe_address(address: object) -> str:
    """Return a socket's own address as it is written in a URL, or `unix:` and its path."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    path = address.decode(errors="replace") if isinstance(address, bytes) else str(address)
    return f"{_UNIX}@{path[1:]}" if path.startswith("\0") else f"{_UNIX}{path}"  # an abstract one
