"""What proxies say about a request: the `X-Forwarded` fields, and `Forwarded` (RFC 7239).

A client may send these fields, too, and most proxies append to what they receive. So only the right end of
such a list was written by somebody who is known: its last entry by the peer, the entry before that by the
proxy that the last one names, and so on, as long as those are trusted. The walk ends at the first entry that
is no trusted proxy: it is the client, or something malformed, behind which nothing can be known.

Each entry is read by itself, from the right. Nothing that a client writes to the left of it, such as a quote
that is never closed, changes how it is read. So values in which commas are quoted count as malformed: no
address, host or scheme has any.

A proxy writes one of the two kinds of fields, and passes the other one on as the client has sent it. Most
proxies do not know `Forwarded`. So it counts only in requests without any of the other fields, and the two
are never combined.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple, final
from urllib.parse import quote, unquote_to_bytes

from .._http.fields import DNS_LABELS, TOKEN
from .._http.request import Headers, find_lines
from .._validate import check_texts
from .addresses import HostAndPort, Node, parse_node
from .trusted_proxies import UNIX, TrustedProxies

_FOR = b"x-forwarded-for"
_HOST = b"x-forwarded-host"
_PORT = b"x-forwarded-port"
_PREFIX = b"x-forwarded-prefix"
_PROTO = b"x-forwarded-proto"
_FORWARDED = b"forwarded"

#: The fields that count, unless a server names fewer of them.
FORWARDED_HEADERS = tuple(name.decode("ascii") for name in (_FORWARDED, _FOR, _HOST, _PORT, _PREFIX, _PROTO))

# Of all that proxies say, only the clients' addresses differ from request to request.
_CACHE_SIZE = 64

#: More proxies than this one behind the other are not looked at. The last one found counts as the client.
MAX_HOPS = 32

MAX_PREFIX_SIZE = 1024

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_AUTHORITY = re.compile(rf"(\[[0-9A-Fa-f:.]+\]|{DNS_LABELS}[0-9A-Za-z._~-]+)(?::([0-9]{{1,5}}))?")
_HOST_FIELD = re.compile(r"(\[[^\]]*\]|[^:]+)(?::([0-9]{0,5}))?")
_DIGITS = re.compile(r"[0-9]{1,5}")

# No empty segment: a link that begins with two slashes would lead to another host.
_PATH_PREFIX = re.compile(r"(?:/[0-9A-Za-z._~!$&'()*+,;=:@%-]+)+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_IN_PREFIX = re.compile(r"[\0-\x1f\x7f\\?#]|//|/\.{1,2}(?:/|$)")

# What may stand in a path without being encoded (RFC 3986, 3.3).
_SAFE_IN_PATH = "/!$&'()*+,;=:@~"

# One parameter of `Forwarded`. A quoted value has nothing here that would need a backslash, or could be taken
# for the parameter's end. Some proxies do not quote addresses and ports.
_PAIR = re.compile(rf'({TOKEN})=(?:([^\s"\\,;=]+)|"([^"\\,;]*)")')


class Forwarded(NamedTuple):
    """What trusted proxies say about a request; `None` where they say nothing.

    Attributes:
        client: the client; its port is 0 if it is not known.
        scheme: `http` or `https`.
        host: the host that the client has asked for, as it is in a URL, without its port.
        port: the port that the client has asked for.
        prefix: the beginning of the path that a proxy has removed, decoded; without a slash at its end.
    """

    client: HostAndPort | None = None
    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    prefix: str | None = None


def meant_host(forwarded: Forwarded, field: str, *, is_secure: bool) -> tuple[str | None, HostAndPort | None]:
    """Return the `Host` field that the client has meant, `None` if it is as it should be; and host and port.

    A port that the client has written into the host counts more than one that is only named by itself.

    Args:
        field: the request's `Host` field; empty if it has none.
        is_secure: whether the client uses TLS.
    """
    host, port = forwarded.host, forwarded.port
    if host is None:
        if port is None or not (match := _HOST_FIELD.fullmatch(field)):
            return None, None
        host = match[1].lower()
        if match[2]:
            return None, (host.strip("[]"), int(match[2]))
    default_port = 443 if is_secure else 80
    port = port or default_port
    authority = host if port == default_port else f"{host}:{port}"
    return None if authority == field.lower() else authority, (host.strip("[]"), port)


@final
class ForwardedReader:
    """Reads what trusted proxies say.

    Args:
        proxies: those whose entries are walked over.
        names: the fields that count; some of `FORWARDED_HEADERS`, in any case.

    Raises:
        TypeError: the names are one `str`, or a name is none.
        ValueError: a name is none of those.
    """

    def __init__(self, proxies: TrustedProxies, names: Collection[str] = FORWARDED_HEADERS) -> None:
        if isinstance(names, str):
            raise TypeError("forwarded_headers must be a collection of names, not one str")
        for name in names:
            check_texts(forwarded_headers=name)
        lower = [name.lower() for name in names]
        for name in lower:
            if name not in FORWARDED_HEADERS:
                raise ValueError(
                    f"forwarded_headers may have {', '.join(FORWARDED_HEADERS)}, and not {name!r}"
                )
        self._proxies = proxies
        # All fields are found at once, as most of the time goes by with looking for them.
        joined = "|".join(sorted(lower, key=len, reverse=True)) or "(?!)"
        self._lines = re.compile(rf"\r\n({joined}):([^\r]*)".encode(), re.IGNORECASE)

    def read(self, headers: Headers) -> Forwarded | None:
        """Return what the fields say that the peer, a trusted proxy, has sent; `None` if there are none."""
        found = find_lines(headers, self._lines)
        if not found:
            return None
        addresses = [value for name, value in found if name.lower() == _FOR]
        others = tuple([line for line in found if line[0].lower() != _FOR])
        client, place = self._walk(_join(addresses)) if addresses else (None, 1)
        said = _read_others(others, place)
        if not addresses and said is None:
            return self._read_elements(_join([value for _, value in others]))
        host_and_port = None if client is None else (client.host, client.port)
        return Forwarded(host_and_port) if said is None else Forwarded(host_and_port, *said)

    def _walk(self, value: str) -> tuple[Node | None, int]:
        """Return the client in a list of addresses, and which place from the right the walk ended at."""
        client: Node | None = None
        place = 0
        for entry in _entries_from_right(value):
            place += 1
            if entry in (UNIX, "unix:") and self._proxies.trusts_unix:  # nginx's name of such a peer
                continue
            node = parse_node(entry)
            if node is None:
                break
            client = node
            if not self._proxies.trusts_address(node.packed):
                break
        return client, place

    # Forwarded

    def _read_elements(self, value: str) -> Forwarded:
        client: Node | None = None
        scheme = host = port = None
        for entry in _entries_from_right(value):
            element = _parse_element(entry)
            if element is None:
                break
            scheme = _parse_scheme(element.get("proto")) or scheme
            named_host, named_port = _parse_authority(element.get("host"))
            if named_host is not None:
                host, port = named_host, named_port
            node = parse_node(element.get("for", ""))
            if node is None:
                break  # the client is hidden
            client = node
            if not self._proxies.trusts_address(node.packed):
                break
        return Forwarded(
            client=None if client is None else (client.host, client.port),
            scheme=scheme,
            host=host,
            port=port,
        )


def _join(values: list[bytes]) -> str:
    """Return the value of several fields of one name (RFC 9110, 5.3)."""
    return b",".join(values).decode("latin-1")


@lru_cache(maxsize=_CACHE_SIZE)
def _read_others(
    lines: tuple[tuple[bytes, bytes], ...], place: int
) -> tuple[str | None, str | None, int | None, str | None] | None:
    """Return the scheme, host, port and prefix that the fields beside the addresses say at a place.

    Return `None` if there is none of them: `Forwarded` may be.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in lines:
        values.setdefault(name.lower(), []).append(value)
    values.pop(_FORWARDED, None)
    if not values:
        return None
    entries = {name: _entry_at(_join(several), place) for name, several in values.items()}
    host, own_port = _parse_authority(entries.get(_HOST))
    port = own_port or _parse_port(entries.get(_PORT))
    return _parse_scheme(entries.get(_PROTO)), host, port, _parse_prefix(entries.get(_PREFIX))


def _entries_from_right(value: str) -> list[str]:
    if "," not in value:
        return [value.strip(" \t")]
    entries = value.rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    return [entry.strip(" \t") for entry in reversed(entries)]


def _entry_at(value: str, place: int) -> str:
    """Return the entry that belongs to the one at a place in the list of addresses.

    A list with fewer entries has not been appended to by each proxy: its last one counts.
    """
    entries = _entries_from_right(value)
    return entries[place - 1] if place <= len(entries) else entries[0]


def _parse_scheme(text: str | None) -> str | None:
    return None if text is None else _SCHEMES.get(text.lower())


def _parse_port(text: str | None) -> int | None:
    if text is None or not _DIGITS.fullmatch(text):
        return None
    return int(text) if 0 < int(text) < 65536 else None


def _parse_authority(text: str | None) -> tuple[str | None, int | None]:
    match = None if text is None else _AUTHORITY.fullmatch(text)
    if match is None:
        return None, None
    port = _parse_port(match[2])
    return (None, None) if match[2] is not None and port is None else (match[1].lower(), port)


def _parse_prefix(text: str | None) -> str | None:
    if text is None or len(text) > MAX_PREFIX_SIZE:
        return None
    try:
        return parse_root_path(text)
    except ValueError:
        return None


def parse_root_path(text: str) -> str:
    """Return the decoded beginning of a path, like `/app`, without a slash at its end; `/` is empty.

    Raises:
        ValueError: it does not begin with a slash, or has what a path must not have.
    """
    path = text.removesuffix("/")
    if not path and text:
        return ""
    if not _PATH_PREFIX.fullmatch(path) or _BAD_ESCAPE.search(path):
        raise ValueError(f"a root path must be like /app, percent-encoded, not {text!r}")
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a root path must be UTF-8") from None
    if _NOT_IN_PREFIX.search(decoded):
        raise ValueError(
            "a root path must have no empty or relative segments, no control characters, and no ?, # or \\"
        )
    return decoded


@lru_cache(maxsize=16)
def encode_root_path(path: str) -> bytes:
    """Return a root path as a URL has it."""
    return quote(path, safe=_SAFE_IN_PATH).encode("ascii")


def _parse_element(text: str) -> dict[str, str] | None:
    """Return the parameters of an element, by their names in lower case; `None` if it is malformed."""
    parameters: dict[str, str] = {}
    for pair in filter(None, (pair.strip(" \t") for pair in text.split(";"))):
        match = _PAIR.fullmatch(pair)
        if match is None or match[1].lower() in parameters:
            return None
        parameters[match[1].lower()] = match[2] if match[2] is not None else match[3]
    return parameters
