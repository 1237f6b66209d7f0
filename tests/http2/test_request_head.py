"""Requests of HTTP/2: which header lists are accepted, and what HTTP/1.1 says of the same requests."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from trio_sse._http.exceptions import HTTPException
from trio_sse._http.request import raw_fields
from trio_sse._http.request_head import HeadLimits, RequestHead
from trio_sse._http.websocket_handshake import check_handshake
from trio_sse._http2.error_code import ErrorCode, StreamFault
from trio_sse._http2.request_head import check_trailers, make_request_head

from ..support.cases import Cases, each_case

LIMITS = HeadLimits(size=400, target_size=200, fields=10)
GET = ":method: GET|:scheme: https|:authority: Host:1|:path: /a%20b?c"
CONNECT = ":method: CONNECT|:protocol: websocket|:scheme: https|:authority: h|:path: /"


def fields_of(text: str) -> list[tuple[bytes, bytes]]:
    pairs = [field.partition(": ") for field in text.split("|")]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, _, value in pairs]


def make(text: str, *, is_complete: bool = True) -> RequestHead:
    return make_request_head(
        fields_of(text), LIMITS, is_complete=is_complete, allows_websocket=True, stream_id=7
    )


def test_a_request_is_that_of_http_1_1() -> None:
    head = make(f"{GET}|accept: */*|cookie: a=b|te: trailers|cookie: c=d|host: host:1|x: ")

    assert (head.method, head.target, head.path) == ("GET", "/a%20b?c", "/a b")
    assert (head.http_version, head.host) == ("2", "host")
    assert raw_fields(head.headers) == fields_of("host: Host:1|accept: */*|te: trailers|x: |cookie: a=b; c=d")
    assert not head.keeps_alive


@each_case(
    ("length", "is_complete", "expected"),
    [
        ("", True, 0),
        ("", False, None),
        ("|content-length: 0", True, 0),
        ("|content-length: 5", False, 5),
        ("|content-length: 0", False, 0),
    ],
)
def test_the_body_is_as_long_as_the_fields_say(length: str, is_complete: bool, expected: int | None) -> None:
    assert make(GET + length, is_complete=is_complete).content_length == expected


@pytest.mark.parametrize(
    "more", ["", "|sec-websocket-key: theirs|sec-websocket-protocol: a", "|content-length: 0"]
)
def test_an_extended_connect_is_a_handshake(more: str) -> None:
    connect = CONNECT.replace("websocket", "WebSocket") if more else CONNECT
    head = make(f"{connect}|sec-websocket-version: 13|origin: https://h{more}", is_complete=False)

    assert (head.method, head.content_length, b"upgrade" in head.known) == ("GET", 0, True)
    check_handshake(head.method, head.http_version, head.headers)


ACCEPTED = [
    ":method: OPTIONS|:scheme: http|:authority: h|:path: *",
    ":path: /|:authority: h|:scheme: HTTPS|:method: PATCH",
    ":method: GET|:scheme: https|:path: /|host: h",
    f"{GET}|x: a b|y: a\tb: c|!#$%&'*+-.^_`|~09az: \xff",
    f"{GET}|expect: 100-continue|content-type: a",
]


@each_case("text", ACCEPTED)
def test_these_are_accepted(text: str) -> None:
    assert make(text.replace("`|~", "`~")).http_version == "2"


MALFORMED = [
    "",
    "x: y",
    ":method: GET|:scheme: https|:authority: h",
    ":method: GET|:scheme: https|:authority: h|:path: ",
    ":method: GET|:authority: h|:path: /",
    ":scheme: https|:authority: h|:path: /",
    ":method: |:scheme: https|:authority: h|:path: /",
    ":method: G T|:scheme: https|:authority: h|:path: /",
    ":method: GET|:scheme: ftp|:authority: h|:path: /",
    ":method: GET|:scheme: https|:authority: h|:path: a",
    ":method: GET|:scheme: https|:authority: h|:path: https://h/",
    ":method: GET|:scheme: https|:authority: h|:path: / HTTP/1.0",
    ":method: GET|:scheme: https|:authority: h|:path: /\r\nx: y",
    ":method: GET|:scheme: https|:authority: h\r\nx: y|:path: /",
    ":method: GET|:scheme: https|:authority: h|host: i|:path: /",
    f"{GET}|:path: /",
    f"{GET}|:status: 200",
    f"{GET}|:unknown: 1",
    f"{GET}|:protocol: websocket",
    f"{GET}|x: y|:extra: z",
    "x: y|" + GET,
    f"{GET}|host: other",
    f"{GET}|host: host:1|host: other",
    f"{GET}|X: y",
    f"{GET}|x y: z",
    f"{GET}|x:y: z",
    f"{GET}|: z",
    f"{GET}|x\r\ny: z",
    f"{GET}|\xe4: z",
    f"{GET}|x: a\r\ny: b",
    f"{GET}|x: a\ny",
    f"{GET}|x: a\r",
    f"{GET}|x: a\0b",
    f"{GET}|x: a\x7fb",
    f"{GET}|x:  a",
    f"{GET}|x: a\t",
    f"{GET}|connection: close",
    f"{GET}|keep-alive: 5",
    f"{GET}|proxy-connection: close",
    f"{GET}|transfer-encoding: chunked",
    f"{GET}|upgrade: websocket",
    f"{GET}|te: gzip",
    f"{GET}|te: trailers, gzip",
    f"{GET}|content-length: 5",
    f"{GET}|content-length: 0|content-length: 0",
    f"{GET}|content-length: +0",
    f"{GET}|content-length: ",
    ":method: CONNECT|:authority: h:1|:path: /",
    ":method: CONNECT|:authority: h:1|:scheme: https",
    ":method: CONNECT",
    ":method: CONNECT|:protocol: websocket|:authority: h",
    f"{CONNECT}|content-length: 0|content-length: 0",
    f"{CONNECT}|content-length: x",
]


def test_these_are_malformed() -> None:
    with Cases() as cases:
        for text in MALFORMED:
            with cases.case(text):
                with pytest.raises(StreamFault) as caught:
                    make(text)
                assert (caught.value.stream_id, caught.value.code) == (7, ErrorCode.PROTOCOL_ERROR)


def test_protocol_is_malformed_where_the_server_does_not_support_it() -> None:
    with pytest.raises(StreamFault):
        make_request_head(fields_of(CONNECT), LIMITS, is_complete=False, allows_websocket=False)


REFUSED = [
    (f"{GET}|x: {'v' * 400}", 431),
    (f"{GET}|{'|'.join(['x: y'] * 10)}", 431),
    (f":method: GET|:scheme: https|:authority: h|:path: /{'a' * 200}", 414),
    (f":method: GET|:scheme: https|:authority: h|:path: /{'a' * 400}", 414),
    (f":method: {'A' * 33}|:scheme: https|:authority: h|:path: /", 501),
    (":method: TRACE|:scheme: https|:authority: h|:path: /", 405),
    (":method: CONNECT|:authority: h:1", 405),
    (CONNECT.replace("websocket", "ip"), 501),
    (":method: GET|:scheme: https|:path: /", 400),
    (":method: GET|:scheme: https|:path: /|host: a|host: a", 400),
    (":method: GET|:scheme: https|:authority: |:path: /", 400),
    (":method: GET|:scheme: https|:authority: user@h|:path: /", 400),
    (":method: GET|:scheme: https|:authority: h|:path: *", 400),
    (":method: GET|:scheme: https|:authority: h|:path: /#a", 400),
    (":method: GET|:scheme: https|:authority: h|:path: /%zz", 400),
    (f"{GET}|origin: a|origin: b", 400),
    (f"{GET}|content-length: {'0' * 20}", 413),
]


@each_case(("text", "status"), REFUSED)
def test_others_are_refused_as_by_http_1_1(text: str, status: int) -> None:
    with pytest.raises(HTTPException) as caught:
        make(text)
    assert caught.value.status == status


@each_case("text", [":path: /", "X: y", "content-length: 1", "authorization: x"])
def test_trailers_must_not_change_the_request(text: str) -> None:
    check_trailers(fields_of("x-checksum: abc"), 3)

    with pytest.raises(StreamFault, match="stream 3: PROTOCOL_ERROR"):
        check_trailers(fields_of(text), 3)


def test_fields_that_were_checked_before_mean_the_same() -> None:
    fields = "|cookie: a|cookie: b|x: 1"
    for _ in range(2):
        for text, is_websocket in ((GET + fields, False), (CONNECT + fields, True)):
            head = make(text, is_complete=not is_websocket)
            assert head.headers.get_all("cookie") == ["a; b"]
            assert ("upgrade" in head.headers) == is_websocket
        for field in ("x: a:", "x:  a", "X: a"):
            with pytest.raises(StreamFault) if field != "x: a:" else nullcontext():
                make(f"{GET}|{field}")
    for value in (b"v" * 5000, b"w" * 5000):
        large = [*fields_of(GET), (b"x", value)]
        head = make_request_head(large, HeadLimits(), is_complete=True, allows_websocket=True)
        assert (head.headers.get("x") or "").encode() == value
