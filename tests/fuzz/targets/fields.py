"""Cookies, Accept, hosts and origins: nobody gets in by a malformed one; lists are read by their grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from trio_sse._console.access import Access
from trio_sse._console.credentials import Credentials
from trio_sse._console.peers import AllowedPeers
from trio_sse._http.cors import CrossOrigin, check_origins
from trio_sse._http.event_source import is_event_source, takes_blocks
from trio_sse._http.exceptions import HTTPException
from trio_sse._http.host_names import canonical_host, host_names
from trio_sse._http.request import Request, make_request
from trio_sse._http.request_head import RequestHead, parse_head
from trio_sse._http.websocket_handshake import Handshake, offered_subprotocols
from trio_sse._proxies.trusted_proxies import TrustedProxies
from trio_sse._stream.polling import wants_poll

from ..source import Source

_CREDENTIALS = Credentials("a secret token", clock=lambda: 1_000_000_000.0)
_ACCESS = Access(_CREDENTIALS, AllowedPeers((), TrustedProxies(())))
_SESSION = "1000043200.00112233aabbccdd"
_COOKIE = f"{_CREDENTIALS.cookie_name}={_SESSION}.{_CREDENTIALS.sign(f'session {_SESSION}')}"
_NAMES = (
    "Accept",
    "Cookie",
    "Origin",
    "Authorization",
    "Sec-Fetch-Site",
    "Cache-Control",
    "Sec-WebSocket-Protocol",
)
_HANDSHAKE = Handshake(origins=["http://friend.example"], subprotocols=["chat", "trio-sse.v1"])
_CORS = CrossOrigin(["http://friend.example", "null"], with_credentials=False)
_REFUSED = re.compile(r";[ \t]*q[ \t]*=[ \t]*0(\.0{0,3})?[ \t]*$")


def seeds() -> Iterator[bytes]:
    for host, lines in (
        ("test", {0: "text/event-stream", 5: "no-cache"}),
        ("test:80", {0: "application/json;q=0.5, text/html;q=0, */*", 1: f"a=b; {_COOKIE}"}),
        ("[::1]:8443", {2: "http://[::1]:8443", 4: "same-origin"}),
        ("xn--bcher-kva.example.", {2: "https://xn--bcher-kva.example.", 3: "Bearer a secret token"}),
        ("a%20b", {2: "null", 3: "bearer  x", 6: "chat, trio-sse.v1,,x"}),
    ):
        encoded = "".join(f"{chr(number)}{chr(len(value))}{value}" for number, value in lines.items())
        yield f"{chr(len(host))}{host}{encoded}".encode("latin-1")


def check(data: bytes) -> None:
    source = Source(data)
    host = source.piece().decode("latin-1")
    _check_host(host)
    lines: list[tuple[str, str]] = []
    while source and len(lines) < 8:
        lines.append((source.choice(_NAMES), source.piece().decode("latin-1")))
    head = _head(host, lines)
    if head is None:
        return
    request = make_request("GET", "/", "/", head.headers, "1.1", "127.0.0.1", b"")
    _check_access(request)
    _check_accept(request)
    _check_origin(request)


def _head(host: str, lines: list[tuple[str, str]]) -> RequestHead | None:
    block = "".join(f"\r\n{name}: {value}" for name, value in lines)
    try:
        return parse_head(f"GET / HTTP/1.1\r\nHost: {host}{block}".encode("latin-1"))
    except HTTPException:
        return None


def _check_host(host: str) -> None:
    head = _head(host, [])
    if head is not None:
        canonical = canonical_host(head.host)
        assert canonical_host(canonical) == canonical or canonical.endswith(".")
        assert canonical_host(head.host.upper()) == canonical
        assert not re.search(r"[\0-\x20\x7f/@#?\\]", head.host)
    try:
        (named,) = host_names("allowed_hosts", [host])
    except ValueError:
        return
    asked = _head(named if named.startswith("[") else host, [])
    assert asked is not None and canonical_host(asked.host) == named, (host, named)


def _check_access(request: Request) -> None:
    try:
        viewer = _ACCESS.check(request)
    except HTTPException as refusal:
        assert refusal.status in (401, 403)
        return
    if viewer.session is None:
        assert (request.headers.get("authorization") or "").split(" ", 1)[1].strip() == "a secret token"
    else:
        assert viewer.session == _COOKIE.partition("=")[2]
        assert any(_COOKIE in value for value in request.headers.get_all("cookie"))
    with suppress(HTTPException):
        _ACCESS.check_action(request)
        raise AssertionError("an action needs a body")


def _check_accept(request: Request) -> None:
    accepted = set()
    for value in request.headers.get_all("accept"):
        for item in value.lower().split(","):
            kind = item.split(";")[0].strip(" \t")
            if not any(_REFUSED.fullmatch(f";{parameter}") for parameter in item.split(";")[1:]):
                accepted.add(kind)
    assert wants_poll(request) == ("application/json" in accepted and "text/event-stream" not in accepted)
    if is_event_source(request.headers):
        assert accepted == {"text/event-stream"} and takes_blocks(request.headers)


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    allowed = _CORS.fields(origin).get("Access-Control-Allow-Origin")
    assert allowed is None or allowed == origin in ("http://friend.example", "null")
    try:
        _HANDSHAKE.check_origin(request.headers)
    except HTTPException:
        return
    host = (request.headers.get("host") or "").lower()
    same = {f"http://{host.removesuffix(':80')}", f"https://{host.removesuffix(':443')}"}
    assert origin is None or origin == "http://friend.example" or origin.lower() in same, (origin, host)
    with suppress(ValueError):
        check_origins("origins", [origin or ""])
    offered = offered_subprotocols(request.headers)
    assert _HANDSHAKE.subprotocol(request.headers) in (None, *offered)
