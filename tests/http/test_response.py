"""Responses: their bytes, and what is refused."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import pytest
import trio

from trio_sse import Connection, HTTPException, Request, Response
from trio_sse._http.response import (
    add_fields,
    encode_response,
    encode_stream_head,
    error_response,
    json_response,
)

from ..support.cases import each_case
from ..support.client import Client
from ..support.hostile import logged
from ..support.leaks import MakeServer
from ..support.serving import in_memory
from ..support.waiting import SECONDS

JSON = "application/json"


class Named(str, Enum):  # noqa: UP042  # as many programs have them
    """Its members are not formatted as their values."""

    NAME = "X-Name"
    VALUE = "value"
    TYPE = "text/x"


class Status(int, Enum):
    MADE = 201
    GONE = 410


class Odd(str):
    def __str__(self) -> str:
        return "odd\r\nX-Injected: 1"

    def __format__(self, spec: str) -> str:
        return str(self)

    def encode(self, *arguments: Any) -> bytes:
        return b"odd"


def lines_of(head: bytes, body: bytes = b"") -> tuple[str, set[str], bytes]:
    """Return a response's status line, its fields without the date, and its body."""
    status, *fields = head.removesuffix(b"\r\n\r\n").decode("latin-1").split("\r\n")
    dates = [field for field in fields if field.startswith("Date: ")]
    assert len(dates) == 1
    return status, set(fields) - set(dates), body


@pytest.mark.parametrize("kind", [Named, Odd])
def test_a_subclass_is_sent_as_the_value_that_was_checked(kind: type[str]) -> None:
    name, value, content_type = kind("X-Name"), kind("value"), kind("text/x")
    response = Response(value, status=Status.MADE, content_type=content_type, headers={name: value})
    of_body = {"Content-Type: text/x", "Content-Length: 5"}
    status, fields, body = lines_of(*encode_response(response, fields={}))
    assert (status, fields, body) == ("HTTP/1.1 201 Created", {"X-Name: value", *of_body}, b"value")
    error = HTTPException(Status.GONE, value, {name: value, "content-type": content_type})
    assert str(error) == "410 value"
    status, fields, body = lines_of(*encode_response(error_response(error), fields={}))
    assert (status, body) == ("HTTP/1.1 410 Gone", b"value")
    assert fields == {"X-Name: value", "Cache-Control: no-store", *of_body}


@each_case(
    ("response", "status", "fields", "body"),
    [
        (
            Response("grüße"),
            "200 OK",
            {"Content-Type: text/plain; charset=utf-8", "Content-Length: 7"},
            "grüße".encode(),
        ),
        (
            Response(b"\xff", status=201, content_type="image/png", headers={"X": "y"}),
            "201 Created",
            {"Content-Type: image/png", "Content-Length: 1", "X: y"},
            b"\xff",
        ),
        (Response(), "200 OK", {"Content-Length: 0"}, b""),
        (Response(status=204), "204 No Content", set(), b""),
        (Response(status=304, headers={"ETag": '"é"'}), "304 Not Modified", {'ETag: "é"'}, b""),
    ],
)
def test_a_response_is_encoded(response: Response, status: str, fields: set[str], body: bytes) -> None:
    assert lines_of(*encode_response(response, fields={})) == (f"HTTP/1.1 {status}", fields, body)


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_page_is_one_object_for_all_clients(kind: type[str] | type[bytes]) -> None:
    page = "page" * 5000 if kind is str else b"page" * 5000

    one, other = (encode_response(Response(page), fields={})[1] for _ in range(2))

    assert one is other


def test_without_its_body_a_response_has_the_same_head() -> None:
    response = Response("text")

    whole, head = encode_response(response, fields={}), encode_response(response, fields={}, with_body=False)

    assert lines_of(*head)[1] == lines_of(*whole)[1]
    assert head[1] == b""


def test_the_servers_fields_replace_others_but_vary_is_joined() -> None:
    response = Response(headers={"Vary": "Accept", "X": "mine"})

    fields = lines_of(*encode_response(response, fields={"Vary": "Origin", "X": "yours"}))[1]

    assert fields == {"Vary: Accept, Origin", "X: yours", "Content-Length: 0"}


@pytest.mark.parametrize(
    "headers",
    [
        [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("content-type", "application/json")],
        (
            pair
            for pair in [("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
        ),
        (
            [name, value]
            for name, value in (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("CONTENT-TYPE", JSON))
        ),
    ],
)
def test_headers_may_be_pairs_and_name_the_content_type(headers: Any) -> None:
    response = Response("{}", headers=headers)

    for _ in range(2):
        head, _ = encode_response(response, fields={})
        assert head.count(b"Set-Cookie: ") == 2
        assert head.lower().count(b"content-type: application/json\r\n") == 1
        assert b"text/plain" not in head
    assert response.content_type == "application/json"


@each_case("headers", ["X: y", ["X: y"], [("X",)], [("X", "y", "z")], [("X", 1)], {"X": 1}, 7])
def test_headers_that_are_neither_a_mapping_nor_pairs_are_refused(headers: Any) -> None:
    with pytest.raises(TypeError):
        Response("x", headers=headers)


def test_an_exception_may_have_a_whole_response() -> None:
    response = Response('{"error":1}', status=409, content_type=JSON)

    error = HTTPException(response)

    assert (error.status, error.response, error_response(error)) == (409, response, response)
    assert HTTPException(400).response is None
    with pytest.raises(TypeError, match="sent as it is"):
        HTTPException(response, "detail")


def test_the_detail_of_an_exception_may_have_a_content_type() -> None:
    response = error_response(HTTPException(400, "{}", {"content-type": JSON, "cache-control": "private"}))

    head, body = encode_response(response, fields={})

    assert body == b"{}"
    assert head.lower().count(b"content-type") == head.lower().count(b"cache-control") == 1
    assert b"Content-Type: application/json\r\n" in head


def test_fields_are_added_to_a_head() -> None:
    head = encode_stream_head({"Vary": "Origin"}, is_chunked=True)
    added = [("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("cache-control", "private"), ("vary", "Cookie")]

    changed = add_fields(head + b"5\r\n: x\n\n\r\n", added)

    fields, _, rest = changed.partition(b"\r\n\r\n")
    lines = fields.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert rest == b"5\r\n: x\n\n\r\n"
    assert {"Set-Cookie: a=1", "set-cookie: b=2", "cache-control: private"} <= set(lines)
    assert "Vary: Accept, Origin, Cookie" in lines
    assert not any(line.startswith("Cache-Control") for line in lines)
    assert "Transfer-Encoding: chunked" in lines


def test_a_json_response_is_not_stored() -> None:
    status, fields, body = lines_of(*encode_response(json_response({"a": [1]}, status=503), fields={}))

    assert status == "HTTP/1.1 503 Service Unavailable"
    assert {"Content-Type: application/json", "Cache-Control: no-store"} < fields
    assert json.loads(body) == {"a": [1]}


BAD_FIELDS = [
    {"X": "a\r\nb"},
    {"X": "a\nb"},
    {"X": "a\rb"},
    {"X": "a\0b"},
    {"X": "a\x07b"},
    {"X": "€"},
    {"X\r\nY": "a"},
    {"X Y": "a"},
    {"X:": "a"},
    {"": "a"},
    {"Ä": "a"},
    {"Content-Length": "5"},
    {"transfer-encoding": "chunked"},
    {"Connection": "keep-alive"},
]


@each_case("fields", BAD_FIELDS)
def test_fields_that_would_break_the_message_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="header field"):
        Response(headers=fields)
    with pytest.raises(ValueError, match="header field"):
        HTTPException(400, headers=fields)


@pytest.mark.parametrize("content_type", ["a\r\nX: y", "€", "a\nb"])
def test_a_content_type_that_would_break_the_message_is_refused(content_type: str) -> None:
    with pytest.raises(ValueError, match="Content-Type"):
        Response("text", content_type=content_type)


@each_case("status", [0, 99, 100, 101, 199, 600, 999, -1])
def test_an_invalid_status_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="tatus"):
        Response(status=status)
    with pytest.raises(ValueError, match="tatus"):
        HTTPException(status)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_a_body_has_none(status: int) -> None:
    with pytest.raises(ValueError, match="must not have a body"):
        Response("text", status=status)

    assert error_response(HTTPException(status)).body == ""


def test_text_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        Response("\ud800")

    assert error_response(HTTPException(400, "\ud800")).body == "?\n"


def test_an_error_response_has_its_detail_and_fields_and_is_not_stored() -> None:
    response = error_response(HTTPException(401, "who?", {"WWW-Authenticate": "Basic"}))

    status, fields, body = lines_of(*encode_response(response, fields={}))

    assert status == "HTTP/1.1 401 Unauthorized"
    assert {"WWW-Authenticate: Basic", "Cache-Control: no-store"} < fields
    assert body == b"who?\n"


def test_the_default_detail_is_the_phrase_of_the_status() -> None:
    error = HTTPException(429)

    assert (error.status, error.detail, str(error)) == (429, "Too Many Requests", "429 Too Many Requests")


def test_a_stream_is_neither_stored_nor_transformed_nor_buffered() -> None:
    status, fields, body = lines_of(encode_stream_head({"Vary": "Origin"}, is_chunked=True))

    assert status == "HTTP/1.1 200 OK"
    assert fields == {
        "Content-Type: text/event-stream",
        "Cache-Control: no-cache, no-transform",
        "X-Accel-Buffering: no",
        "Transfer-Encoding: chunked",
        "Vary: Accept, Origin",
    }
    assert body == b""


def test_a_plain_stream_has_no_transfer_encoding() -> None:
    fields = lines_of(encode_stream_head({"Connection": "close"}, is_chunked=False))[1]

    assert "Connection: close" in fields
    assert "Transfer-Encoding: chunked" not in fields


# What handlers answer with


async def ask(client: Client, path: str) -> tuple[int, bytes]:
    """Send a request and return the whole response."""
    with trio.fail_after(SECONDS):
        head = await client.get(path)
        return head.status, await client.sized_body(head)


async def test_a_response_to_head_has_no_body(make_server: MakeServer) -> None:
    server = make_server()

    @server.endpoint("/text")
    async def text(request: Request) -> Response:
        return Response("text")

    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/text", method="HEAD")
        following = await ask(client, "/text")

    assert (head.status, head.get("Content-Length")) == (200, "4")
    assert following == (200, b"text")


async def test_a_connection_is_reusable_after_a_response_without_a_body(make_server: MakeServer) -> None:
    server = make_server()

    @server.endpoint("/status/{status:int}")
    async def answer(request: Request, status: int) -> Response:
        if request.query:
            raise HTTPException(status)
        return Response(status=status)

    async with in_memory(server) as serving, serving.connect() as client:
        for status in (204, 205, 304):
            for query in ("", "?raise"):
                assert await ask(client, f"/status/{status}{query}=1" if query else f"/status/{status}") == (
                    status,
                    b"",
                )


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_handler_may_refuse(make_server: MakeServer, is_stream: bool) -> None:
    server = make_server()

    if is_stream:

        @server.route("/")
        async def stream(connection: Connection) -> None:
            raise HTTPException(402, "pay", {"X": "y"})

    else:

        @server.endpoint("/")
        async def answer(request: Request) -> Response:
            raise HTTPException(402, "pay", {"X": "y"})

    async with in_memory(server) as serving, serving.connect() as client:
        assert await ask(client, "/") == (402, b"pay\n")
        assert await ask(client, "/") == (402, b"pay\n")


async def test_a_failing_endpoint_answers_500_without_internals(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.endpoint("/raises")
    async def raises(request: Request) -> Response:
        raise RuntimeError("secret")

    @server.endpoint("/bad")
    async def bad(request: Request) -> Response:
        raise HTTPException(400, headers={"X": "a\r\nb"})

    @server.endpoint("/none")
    async def none(request: Request) -> Response:
        return None  # type: ignore[return-value]  # a mistake that handlers make

    async with in_memory(server) as serving, serving.connect() as client:
        for path in ("/raises", "/bad", "/none"):
            assert await ask(client, path) == (500, b"Internal Server Error\n")

    assert [line.partition(" peer=")[0] for line in logged(caplog) if "failed" in line] == [
        f"the endpoint failed for path={path}" for path in ("/raises", "/bad", "/none")
    ]


async def test_a_stream_that_fails_before_it_starts_answers_500_without_internals(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.route("/raises")
    async def raises(connection: Connection) -> None:
        raise ExceptionGroup("secret", [RuntimeError("secret")])

    @server.route("/bad")
    async def bad(connection: Connection) -> None:
        raise HTTPException(400, headers={"X": "a\r\nb"})

    async with in_memory(server) as serving, serving.connect() as client:
        for path in ("/raises", "/bad"):
            assert await ask(client, path) == (500, b"Internal Server Error\n")

    failures = [line for line in logged(caplog) if line.startswith("the handler failed")]
    assert ["peer=" in line for line in failures] == [True, True]
