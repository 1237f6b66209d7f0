"""Header blocks: ours are what hpack decodes, on any connection; others are decoded within bounds."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse._http.request_head import APP_LIMITS, HeadLimits
from trio_sse._http2.error_code import ConnectionFault
from trio_sse._http2.header_block import encode_fields
from trio_sse._http2.header_decoder import HeaderDecoder
from trio_sse._http2.integers import encode_integer
from trio_sse._http2.limits import LIMITS, Http2Limits
from trio_sse._http2.response_head import translate_head

from ..support.cases import each_case

NAMES = st.sampled_from([b":status", b"date", b"x-a", b"set-cookie", b"www-authenticate", b"accept-encoding"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=8)


@given(fields=FIELDS, before=FIELDS)
def test_hpack_decodes_our_blocks_in_any_state(
    fields: list[tuple[bytes, bytes]], before: list[tuple[bytes, bytes]]
) -> None:
    decoder = hpack.Decoder()
    decoder.decode(hpack.Encoder().encode(before), raw=True)

    assert list(decoder.decode(encode_fields(fields), raw=True)) == fields


BLOCKS = [
    ([(b":status", b"200")], "88"),
    ([(b":status", b"503")], "08 03 353033"),
    ([(b"accept-encoding", b"gzip, deflate")], "90"),
    ([(b"x", b"\xff")], "00 0178 01ff"),  # Huffman's code would be longer
    ([(b"set-cookie", b"a=b")], "1f28 03613d62"),
    ([(b"cache-control", b"no-cache")], "0f09 86a8eb10649cbf"),
    ([(b"www-authenticate", b"")], "0f2e 00"),
]


@each_case(("fields", "block"), BLOCKS)
def test_blocks_are_as_small_as_they_can_be_without_a_table(
    fields: list[tuple[bytes, bytes]], block: str
) -> None:
    assert encode_fields(fields).hex() == block.replace(" ", "")


def test_every_entry_of_the_static_table_is_used() -> None:
    decoder = hpack.Decoder()
    for index in range(1, 62):
        fields = HeaderDecoder().decode(bytes((0x80 | index,)))
        block = encode_fields(fields)
        assert list(decoder.decode(block, raw=True)) == fields
        assert len(block) <= 3, fields  # the index, and the length of an empty value


@pytest.mark.parametrize(
    ("value", "bits", "encoded"), [(10, 5, b"\x0a"), (31, 5, b"\x1f\0"), (1337, 5, b"\x1f\x9a\x0a")]
)
def test_integers_are_those_of_the_rfc(value: int, bits: int, encoded: bytes) -> None:
    assert encode_integer(value, bits, 0) == encoded


REFUSED = [
    (b"\x20" * 3, "COMPRESSION_ERROR"),
    (b"\x3f\xe1\x1f\x20\x21", "COMPRESSION_ERROR"),
    (b"\x3f\xff\xff\xff\xff\x0f", "COMPRESSION_ERROR"),
    (b"\xbe", "COMPRESSION_ERROR"),
    (b"\x00\x05abc", "COMPRESSION_ERROR"),
    (b"\x00\x01x\x7f\xff\xff\xff\xff\xff\x0f", "COMPRESSION_ERROR"),
    (b"\x40\x01x\x7f\x81\x1f" + b"v" * 4096 + b"\x82" * 3000, "ENHANCE_YOUR_CALM"),
]


@each_case(("block", "code"), REFUSED)
def test_a_block_that_cannot_be_decoded_ends_the_connection(block: bytes, code: str) -> None:
    decoder = HeaderDecoder()
    assert decoder.decode(b"\x20\x3f\xe1\x1f\x82") == [
        (b":method", b"GET")
    ]  # two changes of the table's size

    with pytest.raises(ConnectionFault, match=code):
        decoder.decode(block)


def test_a_list_may_be_somewhat_larger_than_a_head() -> None:
    for heads in (HeadLimits(), APP_LIMITS):
        limits = Http2Limits.of_heads(heads)
        fields = [(b"x", b"v" * heads.size)] * 2
        assert HeaderDecoder(limits).decode(hpack.Encoder().encode(fields, huffman=False)) == fields
    assert Http2Limits.of_heads(HeadLimits()) == LIMITS


def test_heads_are_translated() -> None:
    head = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\nConnection: close\r\nTE: trailers\r\n"
    head += b"Transfer-Encoding: chunked\r\nUpgrade: h2c\r\nX-Empty:\r\nSet-Cookie:  a: b \r\n\r\n"

    translated = translate_head(head, is_websocket=False)

    assert (translated.status, translated.is_interim, translated.content_length) == (200, False, 5)
    assert HeaderDecoder().decode(translated.block) == [
        (b":status", b"200"),
        (b"date", b"now"),
        (b"content-length", b"5"),
        (b"x-empty", b""),
        (b"set-cookie", b"a: b"),
    ]
    assert translate_head(head, is_websocket=False) is translated


@each_case(
    ("line", "is_websocket", "status", "is_interim"),
    [
        ("101 Switching Protocols", True, 200, False),
        ("403 Forbidden", True, 403, False),
        ("100 Continue", False, 100, True),
        ("103 Early Hints", False, 103, True),
    ],
)
def test_statuses_are_translated(line: str, is_websocket: bool, status: int, is_interim: bool) -> None:
    large = f"HTTP/1.1 {line}\r\nSec-WebSocket-Accept: k\r\nX: {'v' * 2000}\r\n\r\n".encode()

    translated = translate_head(large, is_websocket=is_websocket)

    assert translated[::2] == (status, is_interim)
    fields = HeaderDecoder().decode(translated.block)
    assert fields == [(b":status", b"%d" % status), (b"x", b"v" * 2000)]
