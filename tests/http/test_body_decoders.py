"""Request bodies, decoded from a buffer. `tests/request/test_body.py` has what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse import HTTPException
from trio_sse._http.body_decoders import (
    MAX_CHUNK_LINE,
    MAX_TRAILERS,
    BodyDecoder,
    ChunkedDecoder,
    EndedDecoder,
    SizedDecoder,
)

from ..support.cases import each_case
from ..support.chunks import BAD_CHUNKS, GOOD_CHUNKS

NEXT = b"GET / HTTP/1.1\r\n\r\n"


def decode(decoder: BodyDecoder, data: bytes, splits: list[int]) -> tuple[bytes, bytes]:
    """Feed the data in pieces; return the body and what is left of the data."""
    buffer = bytearray()
    places = sorted({split % (len(data) + 1) for split in splits})
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        buffer += data[start:end]
        decoder.feed(buffer)
    return bytes(decoder.body), bytes(buffer)


SPLITS = st.lists(st.integers(0, 10_000), max_size=8)


@given(body=st.binary(), splits=SPLITS)
def test_a_sized_body_leaves_the_next_request(body: bytes, splits: list[int]) -> None:
    decoder = SizedDecoder(len(body))

    assert decode(decoder, body + NEXT, splits) == (body, NEXT)
    assert decoder.is_complete


@given(chunks=st.lists(st.binary(min_size=1)), splits=SPLITS)
def test_a_chunked_body_leaves_the_next_request(chunks: list[bytes], splits: list[int]) -> None:
    decoder = ChunkedDecoder(sum(map(len, chunks)))
    encoded = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)

    assert decode(decoder, encoded + b"0\r\nX: y\r\n\r\n" + NEXT, splits) == (b"".join(chunks), NEXT)
    assert decoder.is_complete


@pytest.mark.parametrize("by", [1, 7, 1 << 20])
def test_malformed_chunks_are_refused_and_others_decoded(by: int) -> None:
    def decoded(data: bytes, *, most: int = 100) -> tuple[bytes, bool] | str:
        decoder, buffer = ChunkedDecoder(most), bytearray()
        try:
            for start in range(0, len(data), by):
                buffer += data[start : start + by]
                decoder.feed(buffer)
        except HTTPException as refusal:
            return str(refusal)
        assert decoder.end() is decoder.is_complete
        return bytes(decoder.body), decoder.is_complete

    refusals = {str(decoded(raw)) for raw in BAD_CHUNKS.values()}
    assert refusals == {
        "400 a chunk must begin with its size",
        "400 a chunk must end with CRLF",
        "400 lines of a chunked body must end with CRLF",
        f"400 a line of a chunked body must have at most {MAX_CHUNK_LINE} bytes",
        f"400 a line of a chunked body must have at most {MAX_TRAILERS} bytes",
        "400 the trailer section is not acceptable",
    }
    for name, (raw, body) in GOOD_CHUNKS.items():
        assert decoded(raw) == (body, True), name
        assert decoded(raw, most=len(body)) == (body, True), name
        assert not body or str(decoded(raw, most=len(body) - 1)).startswith("413 "), name


@each_case("by", [1, 1 << 20])
@each_case(
    ("longest", "prefix"),
    [(MAX_CHUNK_LINE, b"5;"), (MAX_TRAILERS, b"0\r\nX:"), (MAX_TRAILERS - 2, b"0\r\nY:\r\nX:")],
)
def test_lines_of_chunks_have_exact_bounds(longest: int, prefix: bytes, by: int) -> None:
    def feed(size: int) -> None:
        decoder, buffer = ChunkedDecoder(100), bytearray()
        data = prefix + b"a" * (size - 2) + b"\r\n"
        for start in range(0, len(data), by):
            buffer += data[start : start + by]
            decoder.feed(buffer)
        assert not buffer

    feed(longest)
    with pytest.raises(HTTPException) as refusal:
        feed(longest + 1)
    assert refusal.value.status == 400
    limit = MAX_CHUNK_LINE if prefix == b"5;" else MAX_TRAILERS
    with pytest.raises(HTTPException):  # at once, whatever follows
        ChunkedDecoder(100).feed(bytearray(prefix + b"a" * limit))


def test_a_body_that_ends_with_its_transport() -> None:
    decoder = EndedDecoder(5)
    for piece in (b"123", b"", b"45"):
        buffer = bytearray(piece)
        decoder.feed(buffer)
        assert not buffer
    assert (bytes(decoder.body), decoder.is_complete) == (b"12345", False)
    with pytest.raises(HTTPException, match="at most 5 bytes") as refusal:
        decoder.feed(bytearray(b"6"))
    assert refusal.value.status == 413
    assert decoder.end()
    assert decoder.is_complete


@pytest.mark.parametrize("make", [EndedDecoder, ChunkedDecoder])
def test_the_bound_of_a_body_that_nobody_keeps_can_be_lifted(make: Callable[[int], BodyDecoder]) -> None:
    decoder = make(5)
    decoder.lift_bound()
    decoder.feed(bytearray(b"6\r\n123456\r\n"))
    assert b"123456" in decoder.body


@pytest.mark.parametrize(("make", "data"), [(SizedDecoder, b"1234"), (ChunkedDecoder, b"4\r\n")])
def test_a_body_without_its_end_is_incomplete(make: Callable[[int], BodyDecoder], data: bytes) -> None:
    decoder = make(5)

    decode(decoder, data, [])
    assert not decoder.end()

    assert decoder.is_complete is False


def test_a_chunk_is_refused_as_soon_as_its_size_is_known() -> None:
    with pytest.raises(HTTPException, match="at most 10 bytes"):
        ChunkedDecoder(10).feed(bytearray(b"b\r\n"))


@pytest.mark.parametrize(("size", "most"), [(1, 16 * 1024 * 16 // 15), (8, 16 * 1024 * 2), (16, None)])
def test_the_number_of_small_chunks_is_bounded(size: int, most: int | None) -> None:
    decoder = ChunkedDecoder(1 << 40)
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
    decoder.feed(bytearray(chunk * (40_000 if most is None else most)))

    if most is not None:
        with pytest.raises(HTTPException, match=r"^400 the body has too many small chunks$"):
            decoder.feed(bytearray(chunk * 2))
