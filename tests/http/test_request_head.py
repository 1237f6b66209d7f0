"""Request heads: where our parser and h11 must agree, and where they must not."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_sse import HTTPException
from trio_sse._http import request_head
from trio_sse._http.fields import SINGLE_FIELDS
from trio_sse._http.request import raw_fields

from ..support.cases import each_case


async def test_h11_still_accepts_what_our_own_checks_refuse() -> None:
    """Heads that h11 accepts must be refused by our own checks. If h11 changes, they may change, too."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET foo HTTP/9.9\nHost:\nContent-Length: 5, 5\nX: \x07\n\n")

    assert isinstance(connection.next_event(), h11.Request)


FIELD_VALUES = st.binary(max_size=20).map(lambda value: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", value))
FIELD_NAMES = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12).map(str.encode)


@given(
    fields=st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES), max_size=8),
    target=st.sampled_from([b"/", b"/a?b=c", b"http://test/x"]),
)
def test_fields_are_split_as_h11_splits_them(fields: list[tuple[bytes, bytes]], target: bytes) -> None:
    names = [name.lower() for name, _ in fields]
    assume(not {b"host", b"content-length", b"transfer-encoding"} & set(names))
    assume(not any(names.count(name) > 1 for name in map(str.encode, SINGLE_FIELDS)))
    lines = [b"GET %b HTTP/1.1" % target, b"Host: test", *(b"%b:%b" % field for field in fields)]
    head = b"\r\n".join(lines)
    assert raw_fields(request_head.parse_head(head).headers) == request_head._parse_fields(head)


@pytest.mark.parametrize("first", ["Host: TEST:80", "X: y"])
def test_the_authority_of_an_absolute_target_is_the_host_field(first: str) -> None:
    is_old = "Host" not in first
    line = f"GET http://test/x?y HTTP/1.{0 if is_old else 1}"

    head = request_head.parse_head(f"{line}\r\n{first}\r\nA: b".encode())

    assert (head.target, head.host) == ("/x?y", "test")
    assert head.headers.get_all("host") == ["test"]
    assert head.headers.get("a") == "b"


SMALL = request_head.HeadLimits(size=100, target_size=40, fields=3)
LONGEST_METHOD = "M" * request_head.MAX_METHOD_SIZE


def of_size(size: int) -> str:
    head = "GET / HTTP/1.1\r\nHost: test\r\nX: \r\n\r\n"
    return head.replace("X: ", "X: " + "x" * (size - len(head)))


@each_case(
    ("longest", "too_long", "status"),
    [
        (of_size(100), of_size(101), 431),
        (f"GET /{'x' * 39} HTTP/1.1\r\nHost: test\r\n\r\n", None, 0),
        (None, f"GET /{'x' * 40} HTTP/1.1\r\nHost: test\r\n\r\n", 414),
        ("GET / HTTP/1.1\r\nHost: test\r\nA: 1\r\nB: 2\r\n\r\n", None, 0),
        (None, "GET / HTTP/1.1\r\nHost: test\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", 431),
        (f"{LONGEST_METHOD} / HTTP/1.1\r\nHost: test\r\n\r\n", None, 0),
        (None, f"{LONGEST_METHOD}M / HTTP/1.1\r\nHost: test\r\n\r\n", 501),
    ],
)
def test_bounds_are_exact(longest: str | None, too_long: str | None, status: int) -> None:
    if longest is not None:
        assert request_head.take_head(bytearray(longest.encode()), SMALL) is not None
    if too_long is not None:
        with pytest.raises(HTTPException) as refusal:
            request_head.take_head(bytearray(too_long.encode()), SMALL)
        assert refusal.value.status == status


@each_case(
    "fields",
    [
        "X: y",
        "Host: test\r\nHost: test",
        "Host: test\r\nHost: other",
        "Host: test\r\nContent-Length: 1\r\nContent-Length: 1",
        "Host: test\r\nContent-Length: 1, 1",
        "Host: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "Host: test\r\nTransfer-Encoding: chunked, chunked",
        "Host: test\r\nTransfer-Encoding: chunked, x",
        "Host: test\nX: y",
        "Host: test\r\nX: y\n",
        "Host: test\r\n X: y",
        "Host: test\r\nX : y",
        "Host: test\r\nAuthorization: a\r\nAuthorization: b",
    ],
)
def test_what_two_parsers_may_read_differently_is_refused(fields: str) -> None:
    with pytest.raises(HTTPException) as refusal:
        request_head.take_head(bytearray(f"POST / HTTP/1.1\r\n{fields}\r\n\r\n".encode()))
    assert refusal.value.status == 400


@each_case(
    ("beginning", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: test\nX", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b" ", 400),
        (b"GET / HTTP/9.9\r\n", 505),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100, 431),
        (b"GET /" + b"x" * 100, 414),
        (b"M" * 33, 501),
    ],
)
def test_a_head_that_cannot_become_acceptable_is_refused_before_its_end(
    beginning: bytes, status: int
) -> None:
    with pytest.raises(HTTPException) as refusal:
        request_head.take_head(bytearray(beginning), SMALL)
    assert refusal.value.status == status
