"""Header blocks of HTTP/2: hpack reads what is accepted alike, and what we encode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import hpack

from trio_sse._http2.error_code import ConnectionFault
from trio_sse._http2.header_block import encode_fields
from trio_sse._http2.header_decoder import HeaderDecoder
from trio_sse._http2.limits import Http2Limits

from ..source import Source

_LIMITS = Http2Limits(header_list=4000)
Fields = list[tuple[bytes, bytes]]


def seeds() -> Iterator[bytes]:
    encoder = hpack.Encoder()
    encoded = [
        encoder.encode([(b":method", b"GET"), (b":path", b"/a"), (b"cookie", b"a=1")], huffman=True),
        encoder.encode([(b"x-long-name", b"v" * 60), (b":method", b"GET"), (b"x-long-name", b"v" * 60)]),
        encoder.encode([(b"x-long-name", b"v" * 60), (b"authorization", b"secret", True)], huffman=False),
    ]
    yield b"".join(bytes((len(block),)) + block for block in encoded)
    for block in (
        b"\x3f\xe1\x1f",
        b"\x20\x3f\x45\x82",
        b"\x40\x01a\x01b\xbe",
        b"\xff\xff\xff\xff\x0f",
        b"\0\x85",
    ):
        yield bytes((len(block),)) + block
    yield b"\x04\x20\x20\x20\x82"


def check(data: bytes) -> None:
    source = Source(data)
    ours, theirs = HeaderDecoder(_LIMITS), hpack.Decoder(_LIMITS.header_list)
    while source:
        block = source.piece()
        try:
            fields = ours.decode(block)
        except ConnectionFault:
            break
        assert fields == _reference(theirs, block)
        assert sum(len(name) + len(value) + 32 for name, value in fields) <= _LIMITS.header_list
    _check_own(Source(data))


def _reference(decoder: hpack.Decoder, block: bytes) -> Fields | None:
    try:
        return [(name, value) for name, value in cast("Fields", decoder.decode(block, raw=True))]
    except hpack.HPACKError:
        return None


def _check_own(source: Source) -> None:
    fields = []
    while source:
        fields.append((source.take(source.number(20)).lower(), source.piece()))
    block = encode_fields(fields)
    assert _reference(hpack.Decoder(1 << 20), block) == fields
    assert HeaderDecoder(Http2Limits(header_list=1 << 20)).decode(block) == fields
