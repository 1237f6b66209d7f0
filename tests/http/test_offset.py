"""The query parameter `offset`: a number of seconds, or a clear refusal."""

from __future__ import annotations

import math
from itertools import chain

import pytest

from trio_sse import Headers, HTTPException, Request, Response, Server, read_offset
from trio_sse.testing import Client

from ..support.cases import each_case


def request(query: str) -> Request:
    return Request("GET", f"/{query}", "/", Headers([]), "1.1", "peer", b"")


@each_case(
    ("query", "seconds"),
    [
        ("", 0.0),
        ("?", 0.0),
        ("?other=1", 0.0),
        ("?offset=0", 0.0),
        ("?offset=30", 30.0),
        ("?offset=12.345", 12.345),
        ("?offset=86400", 86_400.0),
        ("?offset=1e3", 1000.0),
        ("?offset=1e-7", 1e-7),
        ("?a=1&offset=7&b=2", 7.0),
        ("?offset=%31%30", 10.0),
    ],
)
def test_seconds_are_read(query: str, seconds: float) -> None:
    assert read_offset(request(query)) == seconds


NONE = (
    ["", "-1", "-0.001", "86400.001", "1e5", "1e999", "inf", "-inf", "Infinity", "nan", "NaN"],
    ["soon", "1,5", "1_0", "0x10", "1;2", ".", "1.", ".5", "+1", " 1", "1 "],
    ["%2B1", "1%0A", "%D9%A1", "%00", "%FF"],
)


@each_case("value", [*chain(*NONE)])
def test_an_invalid_offset_is_refused(value: str) -> None:
    with pytest.raises(HTTPException) as refusal:
        read_offset(request(f"?offset={value}"))
    assert refusal.value.status == 400
    assert refusal.value.detail == "offset must be a number of seconds from 0 to 86400"


def test_a_repeated_offset_is_refused() -> None:
    with pytest.raises(HTTPException) as refusal:
        read_offset(request("?offset=1&offset=1"))
    assert (refusal.value.status, refusal.value.detail) == (400, "offset must not be repeated")


def test_the_caller_sets_the_largest_offset() -> None:
    assert read_offset(request("?offset=90"), most=90) == 90.0
    assert read_offset(request("?offset=0"), most=0) == 0.0
    with pytest.raises(HTTPException, match=r"from 0 to 89\.5"):
        read_offset(request("?offset=90"), most=89.5)


@each_case(
    ("most", "error"), [(-1, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("1", TypeError)]
)
def test_an_invalid_bound_is_refused(most: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="most"):
        read_offset(request("?offset=1"), most=most)


async def test_a_page_answers_400() -> None:
    server = Server()

    @server.endpoint("/")
    async def page(request: Request) -> Response:
        return Response(f"{read_offset(request)}")

    async with Client(server) as client:
        assert (await client.get("/?offset=2.5")).body == b"2.5"
        refused = await client.get("/?offset=nan")
        assert (refused.status, refused.body) == (
            400,
            b"offset must be a number of seconds from 0 to 86400\n",
        )
