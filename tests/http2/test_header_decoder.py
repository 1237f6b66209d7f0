"""The decoder of header blocks, compared with hpack's."""

from __future__ import annotations

from typing import cast

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse._http2.error_code import ConnectionFault
from trio_sse._http2.header_decoder import HeaderDecoder
from trio_sse._http2.huffman import decode_huffman, huffman_literal
from trio_sse._http2.limits import LIMITS

from ..support.cases import each_case

Fields = list[tuple[bytes, bytes]]

_names = st.sampled_from([b"a", b"cookie", b":path", b"x-long-name", b":method"]) | st.binary(max_size=8)
_values = st.sampled_from([b"", b"GET", b"v" * 300, b"w" * 4100]) | st.binary(max_size=12)
_lists = st.lists(st.tuples(_names, _values, st.booleans()), max_size=6)

# A block, and before it the table's size, if that changes; then whether Huffman's code is used.
_blocks = st.lists(
    st.tuples(_lists, st.none() | st.sampled_from([0, 40, 100, 4096]), st.booleans()), max_size=8
)


def encode(blocks: list[tuple[list[tuple[bytes, bytes, bool]], int | None, bool]]) -> list[bytes]:
    encoder, encoded = hpack.Encoder(), []
    for fields, table_size, is_huffman in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        encoded.append(encoder.encode(fields, huffman=is_huffman))
    return encoded


def reference(decoder: hpack.Decoder, block: bytes) -> Fields | None:
    try:
        return [(name, value) for name, value in cast("Fields", decoder.decode(block, raw=True))]
    except hpack.HPACKError:
        return None


def decoded(decoder: HeaderDecoder, block: bytes) -> Fields | None:
    try:
        return decoder.decode(block)
    except ConnectionFault:
        return None


@pytest.mark.slow
@given(blocks=_blocks)
def test_blocks_of_an_encoder_are_decoded(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], int | None, bool]],
) -> None:
    ours, theirs = HeaderDecoder(), hpack.Decoder(LIMITS.header_list)
    for (fields, _, _), block in zip(blocks, encode(blocks), strict=True):
        assert decoded(ours, block) == reference(theirs, block) == [field[:2] for field in fields]


@pytest.mark.slow
@given(
    blocks=_blocks,
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), min_size=1, max_size=4),
)
def test_what_is_no_block_is_refused(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], int | None, bool]],
    changes: list[tuple[int, bytes]],
) -> None:
    """Both decode the same fields, or refuse. Ours refuses larger integers, and more changes of the size."""
    ours, theirs = HeaderDecoder(), hpack.Decoder(LIMITS.header_list)
    for block in [*encode(blocks), b""]:
        for position, inserted in changes:
            block = block[:position] + inserted + block[position + len(inserted) // 2 :]
        found = decoded(ours, block)
        if found is None:
            return
        assert found == reference(theirs, block)


@each_case(
    "block",
    [
        *(
            b"\x80",
            b"\xbe",
            b"\x7f",
            b"\x82\x20",
            b"\x3f\xe2\x1f",
            b"\x40\x81\xff\x00",
            b"\x00\x01a",
            b"\x01",
        ),
        *(b"\xff\x80\x80\x80\x80\x80\x00", b"\xff\x80\x80\x80\x80", b"\x20\x20\x20", b"\x00\x85aaaa"),
    ],
)
def test_malformed_blocks_are_refused(block: bytes) -> None:
    with pytest.raises(ConnectionFault, match="COMPRESSION_ERROR"):
        HeaderDecoder().decode(block)


@given(
    code=st.binary(max_size=126) | st.sampled_from([huffman_literal(b"ab")[1:], huffman_literal(b"ab")[1:-1]])
)
def test_codes_are_decoded_as_hpack_does(code: bytes) -> None:
    fields = reference(hpack.Decoder(), b"\x00\x01a" + bytes((0x80 | len(code),)) + code)
    assert decode_huffman(code) == (None if fields is None else fields[0][1])


def test_evicted_entries_may_be_named_by_the_field_that_evicts_them() -> None:
    decoder = HeaderDecoder()
    decoder.decode(b"\x40\x04name\x05value")
    large = b"\x7e\x7f\xd1\x1e" + b"v" * 4048  # with the name of the only entry, and 4,084 bytes in all
    assert decoder.decode(large) == [(b"name", b"v" * 4048)]
    assert decoder.decode(b"\xbe") == [(b"name", b"v" * 4048)]
    assert decoder.decode(b"\x40\x01x\x7f\x81\x1f" + b"v" * 4096) == [(b"x", b"v" * 4096)]  # does not fit
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe")
