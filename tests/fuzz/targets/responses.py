"""Responses, as clients parse them: in pieces as at once; chunks that our server takes are read alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import httpx

from trio_sse._client.answers import TryAgain, check_response
from trio_sse._client.errors import StreamRefused
from trio_sse._http.body_decoders import ChunkedDecoder
from trio_sse._http.exceptions import HTTPException
from trio_sse._tools.load.response import LoadError, LoadStream
from trio_sse._wire.decoder import EventDecoder

from ..source import Source, pieces

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_STATUSES = (200, 204, 301, 400, 408, 429, 500, 503, 101, 599)


def seeds() -> Iterator[bytes]:
    yield _CHUNKED + b"9\r\ndata: a\n\n\r\n0\r\n\r\n"
    yield _CHUNKED + b"5;x=y\r\ndata:\r\n00c\r\n b\r\n\r\ndata\r\n\r\r\n0\r\n\r\n"
    yield _HEAD + b"Content-Length: 18\r\n\r\ndata: a\n\ndata: b\n\nmore"
    yield b"HTTP/1.1 103 Early\r\n\r\n" + _HEAD + b"\r\nid: 1\ndata: a\n\n"
    yield b"HTTP/1.1 503 Full\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    yield b"HTTP/1.0 302 Found\r\nLocation: /b\r\n\r\n"
    yield _HEAD + b"Content-Encoding: gzip\r\n\r\n"
    for text in (
        b"120",
        b"Wed, 21 Oct 2215 07:28:00 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Wed, 21 Oct 9999 23:59:59 -2359",
    ):
        yield b"\7" + text


def check(data: bytes) -> None:
    found = _read([data])
    assert _read(pieces(data)) == found
    _check_chunks(data)
    _check_response(Source(data))


def _read(parts: Iterable[bytes]) -> tuple[list[object], bool, str]:
    """Return the events, whether the response has ended, and what is wrong with it."""
    stream = LoadStream("")
    events: list[object] = []
    try:
        for part in parts:
            events += [(event.data, event.event, event.id, event.retry) for event in stream.feed(part)]
    except LoadError as error:
        assert 0 <= error.retry_after < math.inf
        # What the bytes before it have completed counts only if they came before it.
        return [], False, "failed"
    try:
        stream.end()
    except LoadError:
        return events, stream.is_ended, "cut"
    return events, stream.is_ended, ""


def _check_chunks(data: bytes) -> None:
    decoder, buffer = ChunkedDecoder(1 << 20), bytearray(data)
    try:
        decoder.feed(buffer)
    except HTTPException:
        return
    if not decoder.is_complete:
        return
    expected = [
        (event.data, event.event, event.id, event.retry) for event in EventDecoder().feed(bytes(decoder.body))
    ]
    assert _read([_CHUNKED + data]) == (expected, True, "")


def _check_response(source: Source) -> None:
    status, text = source.choice(_STATUSES), source.rest()[:200]
    headers = [(b"Retry-After", text), (b"Content-Type", text[:40])]
    try:
        assert check_response(httpx.Response(status, headers=headers)) in (True, False)
    except TryAgain as again:
        assert 0 <= again.seconds < math.inf
    except StreamRefused as refused:
        assert refused.status == status
