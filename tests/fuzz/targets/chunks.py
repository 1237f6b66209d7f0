"""Chunked bodies: in pieces as at once, within bounds, and none is accepted that h11 decodes otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import h11

from trio_sse._http.body_decoders import ChunkedDecoder
from trio_sse._http.exceptions import HTTPException
from trio_sse._wire.message import Framing, frame

from ...corpus import case
from ..source import pieces

_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_LARGE, _SMALL = 1 << 20, 50


def seeds() -> Iterator[bytes]:
    for one in case.read("chunks")[1]:
        yield one.raw.partition(b"\r\n\r\n")[2]


def check(data: bytes) -> None:
    if data:  # what we send is what we accept
        assert _decode([frame(data, Framing.CHUNKED), b"0\r\n\r\n"], _LARGE) == (True, data, b"")
    for most in (_LARGE, _SMALL):
        found = _decode([data], most)
        assert _decode(pieces(data), most) == found
        if found is not None:
            assert len(found[1]) <= min(most, len(data))
            if found[0]:
                assert _decode_by_h11(data) == found[1:]


def _decode(parts: Iterable[bytes], most: int) -> tuple[bool, bytes, bytes] | None:
    """Return whether the body is complete, what is known of it, and what follows; `None` if it is refused."""
    decoder, buffer = ChunkedDecoder(most), bytearray()
    for part in parts:
        buffer += part
        try:
            decoder.feed(buffer)
        except HTTPException:
            return None
    assert decoder.is_complete == decoder.end()
    # Of what is not complete, more may be in the buffer, or less.
    return decoder.is_complete, bytes(decoder.body), bytes(buffer) if decoder.is_complete else b""


def _decode_by_h11(data: bytes) -> tuple[bytes, bytes]:
    connection, body = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), b""
    connection.receive_data(_HEAD + data)
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Request | h11.Data), event
        body += bytes(event.data) if isinstance(event, h11.Data) else b""
    return body, connection.trailing_data[0]
