"""The head of an app's response: its fields are checked, and sent, also those that were sent before."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse._app.response import AppResponse
from trio_sse._http.fields import check_raw_field

BYTES = st.text("aZ09-:\t \r\n\0\x0b\x7f\x80\xff", max_size=6).map(lambda text: text.encode("latin-1"))
GOOD = st.tuples(st.sampled_from([b"a", b"X-Y"]), st.sampled_from([b"", b" a b\t\xff", b"x" * 300]))
OURS = (
    (b"Content-Length", b" 2 "),
    (b"content-length", b"2"),
    (b"Keep-Alive", b"1"),
    (b"connection", b"close"),
)


def head_of(fields: list[tuple[bytes, bytes]], **options: tuple[bytes, ...]) -> bytes:
    """Return the lines of a head, without the first and the last one."""
    encoded = AppResponse({"type": "http.response.start", "status": 200, "headers": fields}).encode(
        [], **options
    )
    return encoded.removeprefix(b"HTTP/1.1 200 OK\r\n").removesuffix(b"\r\n")


@given(
    fields=st.lists(GOOD | st.tuples(BYTES, BYTES), max_size=4),
    ours=st.lists(st.sampled_from(OURS), max_size=2),
)
def test_fields_are_sent_or_refused_as_each_of_them_is(
    fields: list[tuple[bytes, bytes]], ours: list[tuple[bytes, bytes]]
) -> None:
    def is_accepted() -> bool:
        for name, value in fields:
            check_raw_field(name, value.strip())
        return True

    accepted = False
    with contextlib.suppress(ValueError):
        accepted = is_accepted()
    for _ in range(2):
        if accepted:
            lines = b"".join(b"%b: %b\r\n" % (name, value.strip()) for name, value in fields)
            date = (b"Date", b"now")
            assert head_of([*ours, *fields, date]) == lines + b"Date: now\r\n"
            assert head_of([*fields, date], without=(b"a", b"x-y", b"date")) == b"".join(
                line for line in lines.splitlines(keepends=True) if line[:2] != b"a:" and line[:4] != b"X-Y:"
            )
        else:
            with pytest.raises(ValueError, match="cannot be sent"):
                head_of(fields)


def test_what_is_no_bytes_is_sent_as_its_bytes_or_refused() -> None:
    for _ in range(2):
        assert b"a: b\r\n" in head_of([(bytearray(b"a"), memoryview(b"b")), (b"c", bytearray(b"d"))])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            head_of([("a", b"b")])  # type: ignore[list-item]


def test_what_fields_say_to_the_server_is_noted() -> None:
    noted = AppResponse(
        {
            "status": 200,
            "headers": [(b"CONTENT-LENGTH", b"2"), (b"Connection", b"x, Close"), (b"upgrade", b"y")],
        }
    )
    assert (noted.content_length, noted.closes, noted.upgrades, noted.is_event_stream) == (
        2,
        True,
        True,
        False,
    )
    stream = AppResponse(
        {"status": 200, "headers": [(b"Content-Type", b" Text/Event-Stream; charset=utf-8")]}
    )
    assert stream.is_event_stream
    for lengths in ((b"2", b"3"), (b"-1",), (b"",)):
        with pytest.raises(ValueError, match="Content-Length"):
            AppResponse({"status": 200, "headers": [(b"content-length", length) for length in lengths]})
