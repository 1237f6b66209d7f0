"""Heads of HTTP/1.1: in pieces as at once, and no head is accepted that h11 refuses or reads differently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import h11

from trio_sse._http.event_source import is_event_source
from trio_sse._http.exceptions import HTTPException
from trio_sse._http.offset import read_offset
from trio_sse._http.path_pattern import ENCODED_SLASH, routed_path
from trio_sse._http.request import announced_body_size, make_request
from trio_sse._http.request_head import LIMITS, RequestHead, take_head
from trio_sse._http.websocket_handshake import Handshake, asks_for_websocket, check_handshake
from trio_sse._stream.polling import wait_of, wants_poll

from ...corpus import case
from ..source import pieces

_HANDSHAKE = Handshake(origins=["http://friend.example"], subprotocols=["chat"])
_FILES = ("header_fields", "request_line", "targets", "paths", "hosts", "singletons", "framing", "upgrades")


def seeds() -> Iterator[bytes]:
    for name in _FILES:
        for one in case.read(name)[1]:
            yield one.raw


def check(data: bytes) -> None:
    head, left = _take([data])
    split, split_left = _take(pieces(data))
    if isinstance(head, int) or head is None:
        assert bool(split) == bool(head) and type(split) is type(head), (head, split)
        return
    assert isinstance(split, RequestHead)
    assert _values(split) == _values(head)
    assert left == split_left
    raw = data[: len(data) - len(left)]
    assert data.endswith(left) and raw.endswith(b"\r\n\r\n") and len(raw) <= LIMITS.size
    _check_h11(raw, head)
    _check_headers(head)
    _use(head)


def _take(parts: Iterable[bytes]) -> tuple[RequestHead | int | None, bytes]:
    """Return the head, the status of its refusal, or `None`; and what is left."""
    buffer, found = bytearray(), None
    for part in parts:
        buffer += part
        if found is None:
            try:
                found = take_head(buffer)
            except HTTPException as refusal:
                return refusal.status, b""
    return found, bytes(buffer)


def _values(head: RequestHead) -> tuple[object, ...]:
    first = (head.method, head.target, head.path, head.http_version, head.host)
    return (*first, tuple(head.headers), head.content_length, frozenset(head.known), head.keeps_alive)


def _check_h11(raw: bytes, head: RequestHead) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    assert request.method.decode() == head.method
    assert request.http_version.decode() == head.http_version
    fields = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
    if request.target.decode() == head.target:
        assert fields == list(head.headers)
    else:
        assert request.target.decode().endswith(head.target) or head.target[:2] in ("/", "/?")
        assert [pair for pair in fields if pair[0] != "host"] == list(head.headers)[1:]


def _check_headers(head: RequestHead) -> None:
    """Compare the fields that are searched for with all of them."""
    every = list(head.headers)
    assert len(head.headers) == len(every) <= LIMITS.fields + 1
    for name, _ in every:
        values = [value for other, value in every if other == name]
        assert head.headers.get_all(name) == values
        assert head.headers.get(name.upper()) == values[0]
        assert name.title() in head.headers
    for known in head.known:
        assert known.decode() in head.headers


def _use(head: RequestHead) -> None:
    """Ask what is asked of each request: a refusal is the only exception."""
    request = make_request(head.method, head.target, head.path, head.headers, head.http_version, "", b"")
    assert routed_path(head.target).replace(ENCODED_SLASH, "/") == head.path
    assert isinstance(request.query, dict)
    assert request.last_event_id is None or request.last_event_id
    assert announced_body_size(request) >= 0
    is_event_source(head.headers)
    with suppress(HTTPException):
        assert 0 <= read_offset(request) <= 86_400
    with suppress(HTTPException):
        if wants_poll(request):
            assert 0 <= wait_of(request) < 3600
    if asks_for_websocket(head.headers):
        _HANDSHAKE.subprotocol(head.headers)
        with suppress(HTTPException):
            check_handshake(head.method, head.http_version, head.headers)
            assert head.method == "GET"
        with suppress(HTTPException):
            _HANDSHAKE.check_origin(head.headers)
