"""Cross-origin requests: which origins may read, and how preflights are answered."""

from __future__ import annotations

from typing import Any

import pytest

from trio_sse import Connection, HTTPException, Request, Response, Server

from ..support.cases import each_case
from ..support.client import Head
from ..support.leaks import MakeServer
from ..support.serving import in_memory

MINE = "https://mine.example"
OTHER = "https://other.example"


def serve_something(make_server: MakeServer, **options: object) -> Server:
    """Return a server with a stream, an endpoint and a path that refuses."""
    server = make_server(**options)

    @server.route("/stream", methods=["GET", "POST"])
    async def stream(connection: Connection) -> None:
        await connection.send("a")

    @server.endpoint("/text")
    async def text(request: Request) -> Response:
        return Response("a", headers={"Vary": "Accept"})

    @server.route("/refused")
    async def refused(connection: Connection) -> None:
        raise HTTPException(403)

    return server


async def ask(server: Server, path: str, *lines: str, method: str = "GET") -> Head:
    """Send a request and return the response's head."""
    async with in_memory(server) as serving, serving.connect() as client:
        return await client.get(path, *lines, method=method)


def cross_origin_fields(head: Head) -> dict[str, str]:
    """Return the header fields that concern other origins."""
    fields = {
        name: value for name, value in head.fields if name.startswith("Access-Control") or name == "Vary"
    }
    # What a stream's answer depends on besides.
    vary = (fields.pop("Vary", "") + ",").replace("Accept, ", "").replace("Accept,", "").strip(",")
    return {**fields, "Vary": vary} if vary else fields


@pytest.mark.parametrize("path", ["/stream", "/refused", "/health", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_allowed_origins_may_read(make_server: MakeServer, path: str, method: str) -> None:
    server = serve_something(make_server, cors_origins=[MINE, "http://localhost:3000"])

    head = await ask(server, path, f"Origin: {MINE}", method=method)

    assert cross_origin_fields(head) == {"Access-Control-Allow-Origin": MINE, "Vary": "Origin"}


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [f"Origin: {OTHER}"],
        ["Origin: null"],
        ["Origin: *"],
        [f"Origin: {MINE}.evil"],
        [f"Origin: {MINE}:444"],
        [f"Origin: {MINE}/"],
        ["Origin: http://mine.example"],
        ["Origin:"],
        [f"Origin: {MINE}, {OTHER}"],
    ],
)
async def test_other_origins_may_not_read_and_vary_is_sent(make_server: MakeServer, lines: list[str]) -> None:
    server = serve_something(make_server, cors_origins=[MINE])

    head = await ask(server, "/stream", *lines)

    assert head.status == 200
    assert cross_origin_fields(head) == {"Vary": "Origin"}


async def test_by_default_no_origin_may_read(make_server: MakeServer) -> None:
    head = await ask(serve_something(make_server), "/stream", f"Origin: {MINE}")

    assert cross_origin_fields(head) == {}


@pytest.mark.parametrize("lines", [[], [f"Origin: {OTHER}"]])
async def test_any_origin_may_be_allowed(make_server: MakeServer, lines: list[str]) -> None:
    server = serve_something(make_server, cors_origins=["*"])

    head = await ask(server, "/stream", *lines)

    assert cross_origin_fields(head) == {"Access-Control-Allow-Origin": "*"}


async def test_credentials_may_be_allowed(make_server: MakeServer) -> None:
    server = serve_something(make_server, cors_origins=[MINE], cors_credentials=True)

    mine = cross_origin_fields(await ask(server, "/stream", f"Origin: {MINE}"))
    other = cross_origin_fields(await ask(server, "/stream", f"Origin: {OTHER}"))

    assert mine["Access-Control-Allow-Credentials"] == "true"
    assert "Access-Control-Allow-Credentials" not in other


async def test_a_responses_own_vary_is_kept(make_server: MakeServer) -> None:
    head = await ask(serve_something(make_server, cors_origins=[MINE]), "/text", f"Origin: {MINE}")

    assert head.get("Vary") == "Accept, Origin"


async def test_a_preflight_response_lists_what_is_allowed(make_server: MakeServer) -> None:
    server = serve_something(make_server, cors_origins=[MINE])
    asking = [
        f"Origin: {MINE}",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: last-event-id",
    ]

    head = await ask(server, "/stream", *asking, method="OPTIONS")

    assert head.status == 204
    assert cross_origin_fields(head) == {
        "Access-Control-Allow-Origin": MINE,
        "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
        "Access-Control-Allow-Headers": (
            "Authorization, Cache-Control, Content-Type, Last-Event-ID, X-CSRF-Token, X-Requested-With, "
            "traceparent, tracestate"
        ),
        "Access-Control-Max-Age": "7200",
        "Vary": "Origin",
    }


async def test_a_preflight_response_lists_further_headers(make_server: MakeServer) -> None:
    server = serve_something(make_server, cors_origins=[MINE], cors_headers=["Mcp-Session-Id", "X-Mine"])

    head = await ask(server, "/stream", f"Origin: {MINE}", method="OPTIONS")

    allowed = dict(head.fields)["Access-Control-Allow-Headers"].split(", ")
    assert {"Last-Event-ID", "Mcp-Session-Id", "X-Mine"} <= set(allowed)


@pytest.mark.parametrize("path", ["/stream", "/text", "/refused"])
@pytest.mark.parametrize("origins", [[MINE], ["*"]])
async def test_a_page_may_read_the_headers_that_are_exposed(
    make_server: MakeServer, path: str, origins: list[str]
) -> None:
    server = serve_something(
        make_server, cors_origins=origins, cors_exposed_headers=["X-Room", "Retry-After"]
    )

    head = await ask(server, path, f"Origin: {MINE}")
    other = await ask(server, path, "Origin: null")

    assert dict(head.fields)["Access-Control-Expose-Headers"] == "X-Room, Retry-After"
    assert ("Access-Control-Expose-Headers" in dict(other.fields)) == (origins == ["*"])


async def test_pages_without_an_origin_are_named_null(make_server: MakeServer) -> None:
    server = serve_something(make_server, cors_origins=[MINE, "null"])

    head = await ask(server, "/stream", "Origin: null")

    assert cross_origin_fields(head) == {"Access-Control-Allow-Origin": "null", "Vary": "Origin"}


@each_case(
    ("options", "error", "match"),
    [
        ({"cors_headers": "X-Mine"}, TypeError, "cors_headers must be a collection of header names"),
        ({"cors_exposed_headers": "X"}, TypeError, "cors_exposed_headers must be a collection"),
        ({"cors_headers": ["a b"]}, ValueError, "must have names of header fields, not 'a b'"),
        ({"cors_headers": ["X\r\nY"]}, ValueError, "must have names of header fields"),
        ({"cors_exposed_headers": [""]}, ValueError, "must have names of header fields, not ''"),
        ({"cors_headers": ["*"], "cors_credentials": True}, ValueError, "cors_headers needs a list of names"),
        ({"cors_exposed_headers": ["*"], "cors_credentials": True}, ValueError, "needs a list of names"),
        ({"cors_origins": ["null"], "cors_credentials": True}, ValueError, "not 'null'"),
    ],
)
def test_options_that_do_not_work_are_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Server(**{"cors_origins": [MINE], **options})


def test_all_headers_may_be_allowed_without_credentials() -> None:
    Server(cors_origins=["*"], cors_headers=["*"], cors_exposed_headers=["*"])


async def test_a_preflight_of_another_origin_gets_no_permission(make_server: MakeServer) -> None:
    server = serve_something(make_server, cors_origins=[MINE])

    head = await ask(server, "/stream", f"Origin: {OTHER}", method="OPTIONS")

    assert head.status == 204
    assert cross_origin_fields(head) == {"Vary": "Origin"}


async def test_a_page_may_read_why_a_request_was_refused(make_server: MakeServer) -> None:
    server = serve_something(make_server, cors_origins=[MINE], max_body_size=1)

    head = await ask(server, "/stream", f"Origin: {MINE}", "Content-Length: 2", method="POST")

    assert head.status == 413
    assert cross_origin_fields(head) == {"Access-Control-Allow-Origin": MINE, "Vary": "Origin"}


@each_case(
    "origin",
    [
        "",
        "mine.example",
        "https://",
        f"{MINE}/",
        f"{MINE}/path",
        f"{MINE}?query",
        f"{MINE}#part",
        "//mine.example",
        "https:mine.example",
        "https://*",
        "https://*.example",
        "https://Mine.example",
        "HTTPS://mine.example",
        "https://mine.example\r\nX: y",
        "https://mine.example X",
        "https://user@mine.example",
        "https://mine.example:443",
        "http://mine.example:80",
        "https://grüße.example",
    ],
)
def test_origins_that_no_browser_sends_are_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="an origin must be like"):
        Server(cors_origins=[origin])


@each_case("origin", [MINE, "http://localhost:3000", "http://[::1]:8000", "moz-extension://abc-1"])
def test_origins_in_a_browsers_form_are_accepted(origin: str) -> None:
    Server(cors_origins=[origin])


def test_one_origin_must_be_in_a_collection() -> None:
    with pytest.raises(TypeError, match="collection of origins"):
        Server(cors_origins="*")


def test_credentials_need_named_origins() -> None:
    with pytest.raises(ValueError, match="needs a list of origins"):
        Server(cors_origins=["*"], cors_credentials=True)
