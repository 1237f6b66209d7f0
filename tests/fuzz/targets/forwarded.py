"""What proxies say: what a client writes to the left of it changes nothing that they have said."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from trio_sse._console.peers import AllowedPeers
from trio_sse._http.exceptions import HTTPException
from trio_sse._http.request import Headers, make_request
from trio_sse._http.request_head import parse_head
from trio_sse._proxies.forwarded import Forwarded, ForwardedReader, encode_root_path, meant_host
from trio_sse._proxies.trusted_proxies import TrustedProxies

from ..source import Source

_NAMES = (
    *("X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix"),
    *("X-Forwarded-Proto", "X-Real-IP", "Host"),
)
_PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8", "127.0.0.1", "unix"])
_READER = ForwardedReader(_PROXIES)
_PEERS = AllowedPeers((), _PROXIES)
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[0-9a-z._~-]+")


def seeds() -> Iterator[bytes]:
    for lines in (
        ["\x00192.0.2.1, 10.0.0.1", "\x05https", "\x02a.example:8443", "\x04/app"],
        ["\x00", "\x03443", "\x04/a/../b", "\x02[::1]:80", "\x07a.example:99999"],
        ['\x01for=192.0.2.60;proto=http;by=203.0.113.43, for="[fd00::1]:4711";host="b.example"'],
        ['\x01for=_hidden, for=unknown, for="10.0.0.1:_port"'],
        ["\x00::ffff:10.0.0.1, unix:, [fd00::1]:80", "\x05wss, http", "\x03080, 0, 65536"],
        ["\x06127.0.0.1", "\x00127.0.0.1:80", '\x01For="[::1]:1";FOR=::1'],
    ):
        yield "".join(f"{line[0]}{chr(len(line) - 1)}{line[1:]}" for line in lines).encode("latin-1")


def check(data: bytes) -> None:
    source = Source(data)
    lines: list[tuple[str, str]] = []
    while source and len(lines) < 20:
        name = source.choice(_NAMES)
        lines.append((name, source.piece().decode("latin-1")))
    headers = _headers(lines)
    if headers is None:
        return
    found = _READER.read(headers)
    assert found == _READER.read(headers)
    _check(found, headers)
    _check_left(lines, found)
    if _PEERS.allow(_request(headers)):
        _check_allowed(lines)


def _headers(lines: list[tuple[str, str]]) -> Headers | None:
    block = "".join(f"\r\n{name}: {value}" for name, value in lines if name != "Host")
    hosts = [value for name, value in lines if name == "Host"]
    head = f"GET / HTTP/1.1\r\nHost: {hosts[0] if hosts else 'test'}{block}"
    try:
        return parse_head(head.encode("latin-1")).headers
    except HTTPException:
        return None


def _request(headers: Headers):  # type: ignore[no-untyped-def]
    return make_request("GET", "/", "/", headers, "1.1", "127.0.0.1:80", b"")


def _check(found: Forwarded | None, headers: Headers) -> None:
    if found is None:
        return
    if found.client is not None:
        assert ipaddress.ip_address(found.client[0]) is not None and 0 <= found.client[1] < 65536
    assert found.scheme in (None, "http", "https")
    assert found.host is None or _HOST.fullmatch(found.host)
    assert found.port is None or 0 < found.port < 65536
    if found.prefix:
        assert (
            found.prefix.startswith("/")
            and "//" not in found.prefix
            and found.prefix.isprintable() is not None
        )
        assert not re.search(r"[\0-\x1f\x7f\\?#]|/\.\.?(/|$)", found.prefix)
        assert re.fullmatch(rb"[\x21-\x7e]+", encode_root_path(found.prefix))
    host, _ = meant_host(found, headers.get("host") or "", is_secure=found.scheme == "https")
    assert host is None or _headers([("Host", host)]) is not None


def _check_left(lines: list[tuple[str, str]], found: Forwarded | None) -> None:
    """Check that what a client has written before the proxies append changes nothing."""
    kinds = {name for name, _ in lines if "orwarded" in name}
    for name, injected in (
        ("X-Forwarded-For", "203.0.113.66"),
        ("Forwarded", "for=203.0.113.66;host=evil;proto=http"),
    ):
        if kinds != {name} or found is None or found.client is None:
            continue
        if _PROXIES.trusts(found.client[0]):
            continue  # the walk has reached what the client may have written
        changed = list(lines)
        changed.insert(0, (name, injected))
        headers = _headers(changed)
        assert headers is not None and _READER.read(headers) == found


def _check_allowed(lines: list[tuple[str, str]]) -> None:
    """Check that the console refuses requests that name a foreign address, among anything else."""
    for line in (
        ("X-Forwarded-For", "203.0.113.66"),
        ("Forwarded", "for=203.0.113.66"),
        ("X-Real-IP", "203.0.113.66"),
    ):
        for place in (0, len(lines)):
            changed = list(lines)
            changed.insert(place, line)
            headers = _headers(changed)
            assert headers is not None and not _PEERS.allow(_request(headers))
