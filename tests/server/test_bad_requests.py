"""Requests that are refused: malformed and oversized heads, wrong hosts, paths, methods and handshakes."""

from __future__ import annotations

import pytest

from trio_sse import Request, Response
from trio_sse._http.fields import SINGLE_FIELDS
from trio_sse.websocket import WebSocketConnection

from ..support.hostile import Target, assert_all_refused, assert_refused, logged
from ..support.leaks import MakeServer
from ..support.raw_requests import VALID, get, named, request
from ..support.serving import in_memory

KIB = 1024


TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2

BAD_REQUEST_LINES = {
    "lower-case protocol": b"GET /stream http/1.1\r\nHost: test\r\n\r\n",
    "no version": b"GET /stream\r\n\r\n",
    "TLS hello": TLS_HELLO,
    "garbage": b"\x00\xff\xfe garbage \x80\r\n\r\n",
    "not a token": b"G(T /stream HTTP/1.1\r\nHost: test\r\n\r\n",
    "an empty line twice": b"\r\n\r\n" + VALID,
    "leading space": b" GET /stream HTTP/1.1\r\nHost: test\r\n\r\n",
    "trailing space": b"GET /stream HTTP/1.1 \r\nHost: test\r\n\r\n",
    "two spaces": b"GET  /stream HTTP/1.1\r\nHost: test\r\n\r\n",
    "two spaces later": b"GET /stream  HTTP/1.1\r\nHost: test\r\n\r\n",
    "tab": b"GET\t/stream HTTP/1.1\r\nHost: test\r\n\r\n",
    "tab later": b"GET /stream\tHTTP/1.1\r\nHost: test\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: test\r\n\r\n",
    "version of three parts": b"GET /stream HTTP/1.1.1\r\nHost: test\r\n\r\n",
    "version without a point": b"GET /stream HTTP/11\r\nHost: test\r\n\r\n",
    "lines ended by LF": VALID.replace(b"\r\n", b"\n"),
    "request line ended by LF": b"GET /stream HTTP/1.1\nHost: test\r\n\r\n",
    "header ended by LF": b"GET /stream HTTP/1.1\r\nHost: test\nX: y\r\n\r\n",
    "lines ended by CR": VALID.replace(b"\r\n", b"\r") + b"\r\n\r\n",
    "NUL in the target": b"GET /str\x00eam HTTP/1.1\r\nHost: test\r\n\r\n",
    "non-ASCII target": "GET /strëam HTTP/1.1\r\nHost: test\r\n\r\n".encode(),
    "DEL in the target": b"GET /str\x7feam HTTP/1.1\r\nHost: test\r\n\r\n",
}

BAD_VERSIONS = {
    "2.0": b"GET /stream HTTP/2.0\r\nHost: test\r\n\r\n",
    "9.9": b"GET /stream HTTP/9.9\r\nHost: test\r\n\r\n",
    "0.9": b"GET /stream HTTP/0.9\r\nHost: test\r\n\r\n",
    "1.2": b"GET /stream HTTP/1.2\r\nHost: test\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}

BAD_FIELDS = {
    "folded": get("/stream", "X: a", " b"),
    "folded by tab": get("/stream", "X: a", "\tb"),
    "folded at once": b"GET /stream HTTP/1.1\r\n X: a\r\nHost: test\r\n\r\n",
    "space before the colon": get("/stream", "X : y"),
    "tab before the colon": get("/stream", "X\t: y"),
    "no name": get("/stream", ": y"),
    "only a colon": get("/stream", ":"),
    "no colon": get("/stream", "X"),
    "brackets": get("/stream", "X[]: y"),
    "non-ASCII name": get("/stream", b"\xc3\x84: y"),
    "NUL in a name": get("/stream", b"X\x00Y: y"),
    "NUL in a value": get("/stream", b"X: a\x00b"),
    "CR in a value": get("/stream", b"X: a\rb"),
    "LF in a value": get("/stream", b"X: a\nb"),
    "CR at a value's end": get("/stream", b"X: a\r"),
    "BEL in a value": get("/stream", b"X: a\x07b"),
    "DEL in a value": get("/stream", b"X: a\x7fb"),
    "ESC in a value": get("/stream", b"X: a\x1bb"),
    "vertical tab before a value": get("/stream", b"X:\x0bb"),
}

BAD_HOSTS = {
    "none": request("GET", "/stream", host=None),
    "two": request("GET", "/stream", "Host: test"),
    "two that differ": request("GET", "/stream", "Host: other"),
    "two in HTTP/1.0": request("GET", "/stream", "Host: other", version="1.0"),
    "empty": request("GET", "/stream", host=""),
    "empty before a port": request("GET", "/stream", host=":80"),
    "space": request("GET", "/stream", host="a b"),
    "path": request("GET", "/stream", host="a/c"),
    "user": request("GET", "/stream", host="c@d"),
    "all of them": request("GET", "/stream", host="a b/c@d"),
    "list": request("GET", "/stream", host="a, b/c"),
    "port not a number": request("GET", "/stream", host="a:b"),
    "two ports": request("GET", "/stream", host="a:1:2"),
    "non-ASCII": request("GET", "/stream", host="hést"),
    "open bracket": request("GET", "/stream", host="[::1"),
    "only a dot": request("GET", "/stream", host="."),
    "empty label": request("GET", "/stream", host="a..b:80"),
    "empty first label": request("GET", "/stream", host=".b"),
    "label too long": request("GET", "/stream", host=f"a.{'b' * 64}.c"),
    "in absolute-form, empty": get("http:///stream"),
    "in absolute-form, with a user": get("http://user@test/stream"),
    "in absolute-form, a bad port": get("http://test:x/stream"),
}

BAD_TARGETS = {
    "relative": get("stream"),
    "asterisk": get("*"),
    "authority": get("test:80"),
    "other scheme": get("ftp://test/stream"),
    "scheme alone": get("http:/stream"),
    "fragment": get("/stream#part"),
    "fragment after the query": get("/stream?a=b#part"),
    "fragment in absolute-form": get("http://test/stream#part"),
    "encoded NUL": get("/topics/a%00b"),
    "encoded CRLF": get("/topics/a%0d%0ab"),
    "encoded LF": get("/topics/a%0Ab"),
    "encoded DEL": get("/topics/a%7fb"),
    "overlong slash": get("/topics/a%c0%afb"),
    "overlong in three bytes": get("/topics/%e0%80%af"),
    "encoded surrogate": get("/topics/%ed%a0%80"),
    "invalid UTF-8": get("/topics/%ff"),
    "cut UTF-8": get("/topics/%c3"),
    "malformed escape": get("/topics/%zz"),
    "cut escape": get("/topics/%a"),
    "101 query fields": get("/stream?" + "&".join(["a=b"] * 101)),
}

BAD_TOPICS = {
    "257 characters": get("/topics/" + "a" * 257),
    "line separator": get("/topics/a%e2%80%a8b"),
    "NEL": get("/topics/a%c2%85b"),
    "right-to-left override": get("/topics/a%e2%80%aeb"),
}


@pytest.mark.slow
@pytest.mark.parametrize("requests", [BAD_REQUEST_LINES, BAD_FIELDS, BAD_TARGETS, BAD_HOSTS])
async def test_a_malformed_head_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, requests: dict[str, bytes]
) -> None:
    await assert_all_refused(make_server, caplog, requests, 400)


async def test_other_versions_are_refused(make_server: MakeServer, caplog: pytest.LogCaptureFixture) -> None:
    await assert_all_refused(make_server, caplog, BAD_VERSIONS, 505)


@pytest.mark.parametrize(
    ("method", "target"), [("CONNECT", "test:80"), ("CONNECT", "/"), ("TRACE", "/stream")]
)
async def test_connect_and_trace_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, method: str, target: str
) -> None:
    answer = await assert_refused(Target(make_server), caplog, request(method, target), 405)

    assert answer.head.get("Allow") == "GET, HEAD, POST, OPTIONS"


@pytest.mark.parametrize("by", [None, 1000])
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(get("/" + "a" * 8 * KIB), 414, id="target"),
        pytest.param(get("/stream?" + "a" * 8 * KIB), 414, id="query"),
        pytest.param(get("/" + "a" * 12 * KIB)[: 12 * KIB], 414, id="target without an end"),
        pytest.param(b"A" * 12 * KIB, 501, id="method without an end"),
        pytest.param(request("A" * 33, "/stream"), 501, id="method"),
        pytest.param(request("A" * 33, "/" + "a" * 8 * KIB), 501, id="method and target"),
        pytest.param(get("/stream", "X: " + "a" * 16 * KIB), 431, id="head"),
        pytest.param(get("/stream", *["X: " + "a" * 200] * 90), 431, id="head of many fields"),
        pytest.param(get("/stream", "X: " + "a" * 17 * KIB)[:-2], 431, id="head without an end"),
        pytest.param(get("/stream", *["X: y"] * 100), 431, id="101 fields"),
    ],
)
async def test_a_head_that_is_too_large_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, raw: bytes, status: int, by: int | None
) -> None:
    caplog.set_level("INFO", logger="trio_sse")
    target = Target(make_server)

    answer = await target.answer(raw, by=by)

    assert answer.status == status
    assert answer.head.get("Connection") == "close"
    assert len(logged(caplog)) == 1
    target.assert_untouched()


@pytest.mark.parametrize(
    "raw", [VALID, request("GET", "http://evil/stream", host="evil"), b"GET /stream HTTP/1.0\r\n\r\n"]
)
async def test_hosts_that_are_not_allowed_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    await assert_refused(Target(make_server, allowed_hosts=["mine"]), caplog, raw, 421)


@pytest.mark.parametrize(
    "raw",
    [
        request("GET", "/echo/a", "Connection: close", host="mine"),
        request("GET", "/echo/a", "Connection: close", host="MINE:8000"),
        request("GET", "http://mine:80/echo/a", "Connection: close", host="mine"),
        request("GET", "/echo/a", "Connection: close", host="[::1]:80"),
    ],
)
async def test_allowed_hosts_are_compared_without_case_and_port(make_server: MakeServer, raw: bytes) -> None:
    answer = await Target(make_server, allowed_hosts=["Mine", "[::1]"]).answer(raw)

    assert answer.status == 200


@pytest.mark.parametrize("raw", named(BAD_TOPICS))
async def test_an_invalid_topic_is_refused(make_server: MakeServer, raw: bytes) -> None:
    target = Target(make_server)

    answer = await target.answer(raw.replace(b"Host: test", b"Host: test\r\nConnection: close"))

    assert answer.status == 400
    assert b"Traceback" not in answer.body
    assert target.server.hub.statistics().topics == 0


@pytest.mark.parametrize(
    "last_event_id",
    [
        b"a" * 10_000,
        b"\xff\xfe",
        b"unknown.1",
        b"1",
        b"-1",
        b".",
        b"x.99999999999999999999999",
        b"a.b.c",
        b"%00",
    ],
)
@pytest.mark.parametrize("is_in_query", [False, True])
async def test_a_foreign_last_event_id_is_a_reset(
    make_server: MakeServer, last_event_id: bytes, is_in_query: bool
) -> None:
    if is_in_query and (len(last_event_id) > 8000 or not last_event_id.isascii()):
        last_event_id = b"%FF" * 2000
    raw = get(b"/topics/a?last_event_id=" + last_event_id)
    if not is_in_query:
        raw = get("/topics/a", b"Last-Event-ID: " + last_event_id)

    async with in_memory(Target(make_server).server) as serving, serving.connect() as client:
        await client.send(raw)
        head = await client.head()
        event = await client.event()

    assert head.status == 200
    assert event.event == "reset"


async def test_an_unknown_path_is_not_found(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    raw = get("/nowhere", "Connection: close")

    await assert_refused(Target(make_server), caplog, raw, 404)


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("POST", "/stream", "GET, HEAD, OPTIONS"),
        ("DELETE", "/stream", "GET, HEAD, OPTIONS"),
        ("BREW", "/stream", "GET, HEAD, OPTIONS"),
        ("get", "/stream", "GET, HEAD, OPTIONS"),
        ("GET", "/body", "POST, OPTIONS"),
        ("HEAD", "/body", "POST, OPTIONS"),
    ],
)
async def test_a_wrong_method_gets_the_allowed_ones(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, method: str, target: str, allow: str
) -> None:
    caplog.set_level("INFO", logger="trio_sse")
    attacked = Target(make_server)

    async with in_memory(attacked.server) as serving, serving.connect() as client:
        head = await client.get(target, method=method)

    assert (head.status, head.get("Allow")) == (405, allow)
    assert len(logged(caplog)) == 1
    attacked.assert_untouched()


@pytest.mark.parametrize("value", [b"ch\xc3\xa4t", b"a, \xff", b"\x80"])
async def test_a_websocket_protocol_that_is_not_ascii_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    for raw in (
        get("/stream", b"Sec-WebSocket-Protocol: " + value),
        get("/stream", b"Sec-WebSocket-Protocol: chat", b"Sec-WebSocket-Protocol: " + value),
    ):
        caplog.clear()
        await assert_refused(Target(make_server), caplog, raw, 400)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: a"], 426),
        (["Sec-WebSocket-Key: a"], 426),
        (["Sec-WebSocket-Version: 13"], 400),
        (["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], 400),
    ],
)
async def test_a_websocket_handshake_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, lines: list[str], status: int
) -> None:
    raw = get("/stream", "Connection: Upgrade", "Upgrade: websocket", *lines)

    answer = await assert_refused(Target(make_server), caplog, raw, status)

    assert answer.head.get("Sec-WebSocket-Version") == ("13" if status == 426 else None)


@pytest.mark.parametrize("lines", [[], ["Connection: Upgrade", "Upgrade: websocket"]])
async def test_an_offer_to_upgrade_concerns_the_connection_only(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, lines: list[str]
) -> None:
    target = Target(make_server)

    @target.server.websocket("/ws")
    async def socket(connection: WebSocketConnection) -> None: ...

    answer = await target.answer(get("/ws", *lines))

    assert answer.status == 426
    assert answer.head.get("Upgrade") == "websocket"
    assert answer.head.get("Connection") == "close, Upgrade"


@pytest.mark.slow
async def test_a_field_that_has_one_value_must_not_be_repeated(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    repeated = {name: get("/stream", f"{name}: a", f"{name.title()}: a") for name in SINGLE_FIELDS}
    await assert_all_refused(make_server, caplog, repeated, 400)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://test/stream", "other"),
        ("http://test/stream", "test:81"),
        ("http://test:8000/stream", "test"),
        ("http://test:80/stream", "test:443"),
        ("https://test:80/stream", "test"),
    ],
)
async def test_a_target_and_a_host_that_differ_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, target: str, host: str
) -> None:
    await assert_refused(Target(make_server), caplog, request("GET", target, host=host), 400)


async def test_the_health_check_is_for_every_host(make_server: MakeServer) -> None:
    target = Target(make_server, allowed_hosts=["mine"])

    assert (await target.answer(get("/health", "Connection: close"))).status == 200
    assert (await target.answer(request("POST", "/health"))).status == 421
    assert (await target.answer(request("GET", "/other"))).status == 421


async def test_a_route_at_the_path_of_the_health_check_is_for_allowed_hosts(make_server: MakeServer) -> None:
    target = Target(make_server, allowed_hosts=["mine"])

    @target.server.endpoint("/health")
    async def health(request: Request) -> Response:
        raise AssertionError("this host is not allowed")

    assert (await target.answer(get("/health"))).status == 421


@pytest.mark.parametrize(
    "path", ['/a"b', "/a<b", "/a>b", "/a\\b", "/a^b", "/a`b", "/a{b", "/a}b", "/?a<b", '/?a"b']
)
async def test_characters_that_a_target_must_encode_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    await assert_refused(Target(make_server), caplog, get(path), 400)


async def test_reason_phrases_are_those_of_rfc_9110(make_server: MakeServer) -> None:
    target = Target(make_server)

    too_long = await target.answer(get("/" + "a" * 8 * KIB))
    too_large = await target.answer(request("POST", "/body", "Content-Length: 99999999"))

    assert too_long.head.reason == "URI Too Long"
    assert too_large.head.reason == "Content Too Large"
