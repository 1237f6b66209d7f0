"""Requests of HTTP/2: no field becomes another one, and HTTP/1.1 accepts and refuses the same ones."""

from __future__ import annotations

from collections.abc import Iterator

from trio_sse._http.exceptions import HTTPException
from trio_sse._http.request_head import LIMITS, RequestHead, parse_head
from trio_sse._http2.error_code import StreamFault
from trio_sse._http2.request_head import check_trailers, make_request_head

from ...corpus import case
from ...corpus.http2 import fields_of, translated
from ..source import Source

Fields = list[tuple[bytes, bytes]]

_NAMES = (
    *(b":method", b":path", b":scheme", b":authority", b":protocol", b"host", b"cookie", b"content-length"),
    *(b"te", b"connection", b"origin", b"last-event-id", b"x", b"X", b"transfer-encoding", b""),
)
_VALUES = (b"GET", b"/", b"https", b"a", b"CONNECT", b"websocket", b"trailers", b"0", b"*", b"POST", b"a, b")
_GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a")]

# They mean something else in HTTP/2, or are malformed there.
_OF_CONNECTIONS = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te")


def seeds() -> Iterator[bytes]:
    found: list[Fields] = [fields_of(one.source) for one in case.read("http2_fields")[1]]
    for name in ("singletons", "hosts", "header_fields", "targets"):
        for one in case.read(name)[1]:
            if (request := translated(one.raw)) is not None:
                found.append(request[0])
    for fields in found:
        yield b"\0" + b"".join(_encode(text) for field in fields for text in field if len(text) < 256)


def _encode(text: bytes) -> bytes:
    return b"\xff" + bytes((len(text),)) + text


def check(data: bytes) -> None:
    source = Source(data)
    fields: Fields = []
    is_complete = bool(source.number(2))
    while source and len(fields) < 40:
        fields.append((_text(source, _NAMES), _text(source, _VALUES)))
    head = _make(fields, is_complete=is_complete)
    if isinstance(head, RequestHead):
        _check_origin(fields, head)
    if not any(name == b":protocol" for name, _ in fields):
        _check_same(fields, head)
    regular = [field for field in fields if field[0][:1] != b":"]
    try:
        check_trailers(regular, 1)
    except StreamFault:
        return
    with_trailers = _make([*_GET, (b":authority", b"a"), *regular], is_complete=True)
    assert isinstance(with_trailers, RequestHead) or with_trailers in (400, 431)


def _text(source: Source, values: tuple[bytes, ...]) -> bytes:
    number = source.number(256)
    return source.piece() if number >= 128 else values[number % len(values)]


def _make(fields: Fields, *, is_complete: bool) -> RequestHead | int | None:
    """Return the head, or the status of a refusal, or `None` if the request is malformed."""
    try:
        return make_request_head(fields, LIMITS, is_complete=is_complete, allows_websocket=True, stream_id=1)
    except HTTPException as refusal:
        return refusal.status
    except StreamFault:
        return None


def _check_origin(fields: Fields, head: RequestHead) -> None:
    """Check that the request has nothing that the client has not sent."""
    assert head.http_version == "2"
    sent = {(name, value) for name, value in fields if name[:1] != b":"}
    pseudo = dict(field for field in fields if field[0][:1] == b":")
    for name, value in head.headers:
        raw = name.encode(), value.encode("latin-1")
        if raw in sent or name in ("cookie", "host"):
            continue
        assert b":protocol" in pseudo and name in ("upgrade", "connection", "sec-websocket-key"), raw
    if b":protocol" not in pseudo:
        assert head.method.encode() == pseudo[b":method"] and head.target.encode() == pseudo[b":path"]
    cookies = [value for name, value in fields if name == b"cookie"]
    assert head.headers.get_all("cookie") == ([b"; ".join(cookies).decode("latin-1")] if cookies else [])
    if (authority := pseudo.get(b":authority")) is not None:
        assert head.headers.get_all("host") == [authority.decode()]
    assert len(head.headers.get_all("host")) == 1


def _check_same(fields: Fields, head: RequestHead | int | None) -> None:
    """Compare with a request of HTTP/1.1 that says the same."""
    pseudo = dict(field for field in fields if field[0][:1] == b":")
    regular = [field for field in fields if field[0][:1] != b":"]
    if any(name.lower() in (*_OF_CONNECTIONS, b"cookie", b"host") for name, _ in regular):
        return
    lines = [b"%b:%b" % field for field in regular]
    if b":authority" in pseudo:
        lines.insert(0, b"host:" + pseudo[b":authority"])
    first = b"%b %b HTTP/1.1" % (pseudo.get(b":method", b""), pseudo.get(b":path", b""))
    try:
        other: RequestHead | int = parse_head(b"\r\n".join([first, *lines]))
    except HTTPException as refusal:
        other = refusal.status
    if isinstance(head, RequestHead):
        assert isinstance(other, RequestHead), (head, other)
        assert (head.method, head.target, head.path, head.host) == (
            other.method,
            other.target,
            other.path,
            other.host,
        )
        assert list(head.headers) == list(other.headers)
    elif isinstance(head, int):
        assert isinstance(other, int), (head, other)
