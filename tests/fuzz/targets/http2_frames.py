"""HTTP/2 connections: in pieces as at once, within bounds, and what is sent is well-formed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import hpack

from trio_sse._http.exceptions import HTTPException
from trio_sse._http2.events import Event, RequestReceived
from trio_sse._http2.frames import FrameReader, FrameType, encode_frame
from trio_sse._http2.limits import Http2Limits
from trio_sse._http2.preface import PREFACE
from trio_sse._http2.protocol import Http2Protocol

from ...http2.spec import ALL_CASES
from ...http2.spec.case import request, setting
from ...http2.test_spec import feed, new_protocol
from ..source import Source, pieces

_LIMITS = Http2Limits(max_streams=10, connection_window=100_000)
_START = PREFACE + setting()
_STREAMS = (0, 1, 3, 5, 2, 7, 1, 1)

# For each byte of the peer, so many are sent at most, and some for the beginning.
_BYTES_PER_BYTE, _BYTES_AT_FIRST = 6, 200


def seeds() -> Iterator[bytes]:
    for one in ALL_CASES:
        sent = b"".join(part for part in one.sent if isinstance(part, bytes))
        yield (b"\0" if one.is_raw else b"\1") + sent
    yield b"\2" + bytes((1, 5, 1, 30)) + request(1)[9:39] + bytes((0, 1, 1, 3)) + b"abc"
    yield b"\2" + bytes((8, 0, 0, 4, 0, 0, 1, 0, 6, 0, 0, 8)) + b"12345678" + bytes((3, 0, 1, 4, 0, 0, 0, 8))


def check(data: bytes) -> None:
    source = Source(data)
    mode = source.number(3)
    if mode == 0:
        sent = source.rest()
    elif mode == 1:
        sent = _START + source.rest()
    else:
        sent = _START + b"".join(_frames(source))
    assert _receive([sent]) == _receive(pieces(sent))
    protocol = new_protocol(_LIMITS)
    output = protocol.take_output()
    for part in pieces(sent):
        output += feed(protocol, part)
        _check_state(protocol)
    protocol.lose_all()
    assert not protocol.streams
    _check_output(output, len(sent))


def _frames(source: Source) -> Iterator[bytes]:
    """Yield frames with right lengths, most of them of types and on streams that there are."""
    while source:
        type, flags = source.number(11), source.number(256)
        stream_id = _STREAMS[source.number(len(_STREAMS))]
        if type == FrameType.HEADERS and source.number(2):
            yield request(stream_id)
        else:
            yield encode_frame(type, flags, stream_id, source.piece())


def _receive(parts: Iterable[bytes]) -> tuple[list[object], bytes, bool]:
    """Return the events, what is sent, and whether the connection has failed, if nobody answers."""
    protocol = new_protocol(_LIMITS)
    events: list[object] = []
    for part in parts:
        events += map(_value, protocol.receive(part, 0.0))
        _check_state(protocol)
    return events, protocol.take_output(), protocol.is_failed


def _value(event: Event) -> object:
    if not isinstance(event, RequestReceived):
        return event
    head = event.head
    what = head.status if isinstance(head, HTTPException) else (head.method, head.target, list(head.headers))
    return event.stream.id, what, event.is_websocket


def _check_state(protocol: Http2Protocol) -> None:
    if protocol.is_failed:
        return
    assert len(protocol.streams) <= _LIMITS.max_streams
    assert sum(stream.unread for stream in protocol.streams.values()) <= _LIMITS.connection_window
    assert protocol.window < 2**31
    for stream_id, stream in protocol.streams.items():
        assert stream.id == stream_id <= protocol.last_stream_id and stream_id % 2
        assert stream.send_window < 2**31 and not stream.is_closed
        assert stream.unread <= _LIMITS.stream_window


def _check_output(output: bytes, received: int) -> None:
    """Parse what is sent as a client does."""
    assert len(output) <= _BYTES_PER_BYTE * received + _BYTES_AT_FIRST
    reader, decoder = FrameReader(), hpack.Decoder()
    reader.feed(output)
    ended: set[int] = set()
    while (frame := reader.take()) is not None:
        if frame.type == FrameType.HEADERS:
            decoder.decode(frame.payload, raw=True)
        if frame.type in (FrameType.HEADERS, FrameType.DATA):
            assert frame.stream_id not in ended
            if frame.flags & 1:
                ended.add(frame.stream_id)
        elif frame.type == FrameType.RST_STREAM:
            assert frame.stream_id % 2
    assert not reader.unread_bytes
