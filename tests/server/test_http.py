"""Request heads: which are accepted, and how hostile and broken clients are refused."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Mapping

import h11
import pytest
import trio
import trio.testing
from _pytest.mark import ParameterSet
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from trio_sse import EndReason, Request, Response, Server
from trio_sse._http import request_head
from trio_sse._http.request import raw_fields

from ..conftest import MakeServer
from ..support.hostile import PATIENCE, Target, assert_refused, connected, logged, send_in_pieces
from ..support.serving import in_memory, on_sockets

KIB = 1024
VALID = b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n"


def get(target: str | bytes, *lines: str | bytes, version: str = "1.1") -> bytes:
    """Return a GET request with further header lines."""
    return request("GET", target, *lines, version=version)


def request(
    method: str, target: str | bytes, *lines: str | bytes, host: str | None = "test", version: str = "1.1"
) -> bytes:
    """Return a request; text is encoded as Latin-1."""
    first = f"{method} ".encode() + _bytes(target) + f" HTTP/{version}".encode()
    hosts = [] if host is None else [_bytes(f"Host: {host}")]
    return b"\r\n".join([first, *hosts, *map(_bytes, lines), b"", b""])


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def named(cases: Mapping[str, object]) -> list[ParameterSet]:
    """Return named test parameters."""
    return [pytest.param(case, id=name) for name, case in cases.items()]


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

BAD_BODY_LENGTHS = {
    "with Transfer-Encoding": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    "with Transfer-Encoding before it": ("Transfer-Encoding: chunked", "Content-Length: 5"),
    "of zero with Transfer-Encoding": ("Content-Length: 0", "Transfer-Encoding: chunked"),
    "two that differ": ("Content-Length: 5", "Content-Length: 6"),
    "two that agree": ("Content-Length: 5", "Content-Length: 5"),
    "two that agree, differently written": ("Content-Length: 5", "content-length: 05"),
    "listed": ("Content-Length: 5, 5",),
    "listed without a space": ("Content-Length: 5,5",),
    "listed with nothing": ("Content-Length: 5,",),
    "plus": ("Content-Length: +5",),
    "minus": ("Content-Length: -1",),
    "minus zero": ("Content-Length: -0",),
    "hexadecimal": ("Content-Length: 0x1",),
    "underscore": ("Content-Length: 1_0",),
    "space within": ("Content-Length: 1 0",),
    "fraction": ("Content-Length: 5.0",),
    "empty": ("Content-Length:",),
    "superscript digit": ("Content-Length: ²",),
    "Arabic digit": (b"Content-Length: \xd9\xa5",),
    "vertical tab": (b"Content-Length: \x0b5",),
    "quoted": ('Content-Length: "5"',),
    "vertical tab before chunked": (b"Transfer-Encoding: \x0bchunked",),
    "vertical tab after chunked": (b"Transfer-Encoding: chunked\x0b",),
    "form feed before chunked": (b"Transfer-Encoding: \x0cchunked",),
    "NUL after chunked": (b"Transfer-Encoding: chunked\x00",),
    "folded chunked": ("Transfer-Encoding:", " chunked"),
    "space before the colon": ("Transfer-Encoding : chunked",),
}

BAD_CODINGS = {
    "identity": ("Transfer-Encoding: identity",),
    "gzip first": ("Transfer-Encoding: gzip, chunked",),
    "gzip last": ("Transfer-Encoding: chunked, gzip",),
    "twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "listed twice": ("Transfer-Encoding: chunked, chunked",),
    "twice, one of them identity": ("Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
    "empty": ("Transfer-Encoding:",),
    "empty item": ("Transfer-Encoding: , chunked",),
    "parameter": ("Transfer-Encoding: chunked;a=b",),
    "quoted": ('Transfer-Encoding: "chunked"',),
    "no-break space": (b"Transfer-Encoding: \xa0chunked",),
    "prefix": ("Transfer-Encoding: xchunked",),
    "suffix": ("Transfer-Encoding: chunkedx",),
}

BAD_REQUESTS = {
    f"{kind}, {name}": raw
    for kind, raws in {
        "request line": BAD_REQUEST_LINES,
        "version": BAD_VERSIONS,
        "field": BAD_FIELDS,
        "host": BAD_HOSTS,
        "target": BAD_TARGETS,
    }.items()
    for name, raw in raws.items()
}


# Refused


@pytest.mark.parametrize(
    "raw",
    named(BAD_REQUEST_LINES | BAD_FIELDS | BAD_TARGETS | {f"Host, {k}": v for k, v in BAD_HOSTS.items()}),
)
async def test_a_malformed_head_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    await assert_refused(Target(make_server), caplog, raw, 400)


@pytest.mark.parametrize("raw", named(BAD_VERSIONS))
async def test_other_versions_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    await assert_refused(Target(make_server), caplog, raw, 505)


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
        pytest.param(b"A" * 12 * KIB, 414, id="method without an end"),
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


@pytest.mark.parametrize("raw", named(BAD_REQUESTS))
async def test_a_malformed_head_is_refused_however_it_is_split(make_server: MakeServer, raw: bytes) -> None:
    target = Target(make_server)

    at_once = await target.answer(raw)
    in_pieces = await target.answer(raw, by=1 if len(raw) < 100 else 7)

    assert in_pieces.status == at_once.status
    target.assert_untouched()


@pytest.mark.parametrize("raw", [VALID, get("http://evil/stream"), b"GET /stream HTTP/1.0\r\n\r\n"])
async def test_hosts_that_are_not_allowed_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    await assert_refused(Target(make_server, allowed_hosts=["mine"]), caplog, raw, 421)


@pytest.mark.parametrize(
    "raw",
    [
        request("GET", "/echo/a", "Connection: close", host="mine"),
        request("GET", "/echo/a", "Connection: close", host="MINE:8000"),
        get("http://mine:80/echo/a", "Connection: close"),
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


# Smuggling


@pytest.mark.parametrize("lines", named(BAD_BODY_LENGTHS))
async def test_a_body_length_that_could_be_misread_is_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, lines: tuple[str | bytes, ...]
) -> None:
    raw = request("POST", "/body", *lines) + b"0\r\n\r\n" + VALID

    await assert_refused(Target(make_server), caplog, raw, 400)


@pytest.mark.parametrize("digits", ["9" * 20, "1" + "0" * 19, "0" * 19 + "5", "9" * 21, "9" * 4000])
async def test_a_content_length_of_twenty_digits_is_too_large(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, digits: str
) -> None:
    await assert_refused(
        Target(make_server), caplog, request("POST", "/body", f"Content-Length: {digits}"), 413
    )


@pytest.mark.parametrize("lines", named(BAD_CODINGS))
async def test_other_transfer_codings_are_refused(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, lines: tuple[str | bytes, ...]
) -> None:
    raw = request("POST", "/body", *lines) + b"0\r\n\r\n" + VALID

    await assert_refused(Target(make_server), caplog, raw, 501)


async def test_http_1_0_has_no_transfer_encoding(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    raw = request("POST", "/body", "Transfer-Encoding: chunked", version="1.0") + b"0\r\n\r\n"

    await assert_refused(Target(make_server), caplog, raw, 400)


@pytest.mark.parametrize("name", ["Transfer_Encoding", "Content_Length", "TransferEncoding"])
async def test_names_that_resemble_content_length_are_ignored(make_server: MakeServer, name: str) -> None:
    target = Target(make_server)
    raw = request("POST", "/body", f"{name}: chunked", "Content-Length: 5", "Connection: close") + b"12345"

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(raw)
        assert (await client.head()).status == 200
        await client.rest()

    assert target.bodies == [b"12345"]


async def test_an_unread_body_closes_the_connection(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    smuggled = request("POST", "/body", "Content-Length: 0")
    raw = request("POST", "/nowhere", f"Content-Length: {len(smuggled)}") + smuggled

    await assert_refused(Target(make_server), caplog, raw, 404)


@pytest.mark.parametrize("over", ["memory", "sockets"])
async def test_bytes_pipelined_after_a_stream_are_never_a_request(make_server: MakeServer, over: str) -> None:
    target = Target(make_server)
    raw = VALID + request("POST", "/body", "Content-Length: 0")

    async with connected(target.server, over) as client:
        await client.send(raw)
        await client.head()
        events = await client.rest()
        after = await client.closed()

    assert [event.data for event in events] == ["streamed"]
    assert after == b""
    assert target.entered == ["/stream"]


@pytest.mark.parametrize("over", ["memory", "sockets"])
@pytest.mark.parametrize("is_at_once", [False, True])
async def test_a_client_that_sends_too_much_is_disconnected(
    make_server: MakeServer, over: str, is_at_once: bool
) -> None:
    target = Target(make_server)
    flood = request("POST", "/body", "Content-Length: 0") * 1000

    async with connected(target.server, over) as client:
        if is_at_once:
            await client.send(get("/topics/a") + flood)
            await client.head()
        else:
            await client.get("/topics/a")
            await client.send(flood)
        with trio.fail_after(5):
            await client.rest()

    assert client.is_cut
    assert target.entered == ["/topics"]
    assert target.server.statistics().ended == {EndReason.PROTOCOL_ERROR: 1}


@pytest.mark.parametrize("over", ["memory", "sockets"])
async def test_a_client_that_sends_a_little_more_is_tolerated(make_server: MakeServer, over: str) -> None:
    target = Target(make_server)

    async with connected(target.server, over) as client:
        await client.get("/topics/a")
        for _ in range(10):
            await client.send(b"a" * KIB)
            await trio.testing.wait_all_tasks_blocked()
        await target.server.hub.publish("a", "still here")
        event = await client.event()
        assert target.server.statistics().open_streams == 1

    assert event.data == "still here"


# Accepted


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(VALID, id="plain"),
        pytest.param(b"\r\n" + VALID, id="an empty line before it"),
        pytest.param(get("http://other/stream"), id="absolute-form"),
        pytest.param(get("HTTPS://other:443/stream?a=b"), id="absolute-form with query"),
        pytest.param(get("/str%65am"), id="percent-encoded"),
        pytest.param(get("/stream?%zz=%ff&&=&a"), id="odd query"),
        pytest.param(get("/stream?" + "a" * 8000), id="long query"),
        pytest.param(get("/stream", *["X: y"] * 99), id="100 fields"),
        pytest.param(get("/stream", "X: " + "a" * 16_000), id="a long field"),
        pytest.param(get("/stream", "X:"), id="an empty value"),
        pytest.param(get("/stream", "X:y"), id="no space before a value"),
        pytest.param(get("/stream", "X:\t y\t "), id="white space about a value"),
        pytest.param(get("/stream", b"X: \xc3\xa4\xff"), id="a value that is not ASCII"),
        pytest.param(get("/stream", "!#$%&'*+-.^_`|~0aZ: y"), id="an odd name"),
        pytest.param(request("GET", "/stream", host="[::1]:8000"), id="an IPv6 host"),
        pytest.param(request("GET", "/stream", host="a.b-c_d:"), id="an empty port"),
        pytest.param(get("/stream", "Content-Length: 0"), id="a body of nothing"),
        pytest.param(get("/stream", "Connection: Upgrade", "Upgrade: h2c"), id="another upgrade"),
    ],
)
async def test_valid_heads_are_accepted(make_server: MakeServer, raw: bytes) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(raw)
        head = await client.head()
        events = await client.rest()

    assert head.status == 200
    assert [event.data for event in events] == ["streamed"]


async def test_a_head_may_come_byte_by_byte(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await send_in_pieces(client, b"\r\n" + VALID, 1)
        assert (await client.head()).status == 200
        assert len(await client.rest()) == 1


async def test_a_head_may_be_split_anywhere(make_server: MakeServer) -> None:
    target = Target(make_server)
    raw = b"\r\n" + VALID

    async with in_memory(target.server) as serving:
        for split in range(1, len(raw)):
            async with serving.connect() as client:
                await client.send(raw[:split])
                await trio.testing.wait_all_tasks_blocked()
                await client.send(raw[split:])
                assert (await client.head()).status == 200
                assert len(await client.rest()) == 1

    assert len(target.entered) == len(raw) - 1


async def test_paths_are_percent_decoded(make_server: MakeServer) -> None:
    server = make_server()

    @server.endpoint("/say/{text}")
    async def say(request: Request, text: str) -> Response:
        return Response(f"{text} {request.path}")

    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/say/gr%C3%BC%c3%9fe%20+%2F")
        body = await client.sized_body(head)
        other_head = await client.get("/say/a%2fb%252F")
        other_body = await client.sized_body(other_head)

    # A slash that was encoded is a slash to the router, and decoding is done once.
    assert head.status == 404
    assert body == b"Not Found\n"
    assert (other_head.status, other_body) == (404, b"Not Found\n")


async def test_a_parameter_is_decoded_once(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        head = await client.get("/echo/gr%C3%BC%c3%9fe%20+%2541")
        body = await client.sized_body(head)

    assert body.decode() == "grüße +%41"


async def test_a_stream_to_http_1_0_ends_with_its_connection(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(b"GET /stream HTTP/1.0\r\n\r\n")
        head = await client.head()
        body = await client.closed()

    assert head.get("Connection") == "close"
    assert head.get("Transfer-Encoding") is None
    assert body == b"data: streamed\n\n"


@pytest.mark.parametrize(
    "raw",
    [b"GET /stream HTTP/1.0\r\n\r\n", get("/stream").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")],
)
async def test_the_last_stream_of_a_connection_sends_connection_close(
    raw: bytes, make_server: MakeServer
) -> None:
    async with in_memory(Target(make_server).server) as serving, serving.connect() as client:
        await client.send(raw)
        head = await client.head()

    assert head.get("Connection") == "close"


async def test_a_response_to_http_1_0_closes(make_server: MakeServer) -> None:
    answer = await Target(make_server).answer(b"GET /echo/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

    assert (answer.status, answer.head.get("Connection"), answer.body) == (200, "close", b"a")


async def test_options_for_the_whole_server_are_answered(make_server: MakeServer) -> None:
    target = Target(make_server)

    answer = await target.answer(request("OPTIONS", "*", "Connection: close"))

    assert answer.status == 204
    assert answer.head.get("Allow") == "GET, HEAD, POST, OPTIONS"
    assert answer.head.get("Content-Length") is None
    target.assert_untouched()


async def test_head_on_a_stream_gets_the_head_alone(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        head = await client.get("/stream", method="HEAD")
        following = await client.get("/echo/a", "Connection: close")
        body = await client.sized_body(following)
        after = await client.closed()

    assert (head.status, head.get("Content-Type")) == (200, "text/event-stream")
    assert (following.status, body, after) == (200, b"a", b"")
    assert target.entered == ["/echo"]
    assert target.server.statistics().opened == 0


async def test_a_connection_carries_several_requests(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:
        for _ in range(2):
            for text in ("a", "b"):
                head = await client.get(f"/echo/{text}")
                assert await client.sized_body(head) == text.encode()
            await client.get("/stream")
            assert [event.data for event in await client.rest()] == ["streamed"]
            assert client.is_ended
            assert (await client.get("/nowhere", method="HEAD")).status == 404
            assert (await client.get("/stream", method="HEAD")).status == 200

    assert target.entered == ["/echo", "/echo", "/stream"] * 2
    assert target.server.statistics().opened == 2


async def test_pipelined_requests_are_answered_in_order(make_server: MakeServer) -> None:
    target = Target(make_server)
    raw = b"".join(get(f"/echo/{number}") for number in range(50))

    async with in_memory(target.server) as serving, serving.connect() as client:
        await client.send(raw)
        bodies = [await client.sized_body(await client.head()) for _ in range(50)]

    assert bodies == [b"%d" % number for number in range(50)]


async def test_endless_pipelining_does_not_starve_other_clients(make_server: MakeServer) -> None:
    server = make_server()
    most = turns = 0

    @server.endpoint("/")
    async def answer(request: Request) -> Response:
        nonlocal most, turns
        turns += 1
        most = max(most, turns)
        return Response()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns = 0
            await trio.lowlevel.checkpoint()

    async with on_sockets(server) as serving, await serving.connect() as client:
        serving.nursery.start_soon(take_turns)
        await client.send(get("/") * 200)
        for _ in range(200):
            await client.head()

    assert most < 10


@pytest.mark.parametrize(
    "lines",
    [["Connection: close"], ["Connection: x, Close"], ["Connection: keep-alive", "Connection: close"]],
)
async def test_a_client_can_ask_to_close_the_connection(make_server: MakeServer, lines: list[str]) -> None:
    answer = await Target(make_server).answer(get("/echo/a", *lines) + get("/echo/b"))

    assert (answer.head.get("Connection"), answer.body, answer.after) == ("close", b"a", b"")


async def test_a_disconnect_between_requests_is_not_logged(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trio_sse")

    async with in_memory(Target(make_server).server) as serving:
        async with serving.connect() as client:
            await client.get("/echo/a")
        async with serving.connect() as client:
            await client.send(VALID[:10])
        async with serving.connect():
            pass
        await trio.testing.wait_all_tasks_blocked()

    assert logged(caplog) == []


async def test_h11_still_accepts_what_our_own_checks_refuse() -> None:
    """Heads that h11 accepts must be refused by our own checks. If h11 changes, they may change, too."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET foo HTTP/9.9\nHost:\nContent-Length: 5, 5\nX: \x07\n\n")

    assert isinstance(connection.next_event(), h11.Request)


# Fuzzed

PIECES = st.sampled_from(
    [
        *(b"GET", b"POST", b"HEAD", b"OPTIONS", b" ", b"\t", b"/stream", b"/body", b"/echo/a", b"/topics/a"),
        *(b"*", b"http://test/", b"?a=b", b"#", b"%00", b"%", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0"),
        *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"Host: test", b"Host", b":", b"X: y", b"X", b"\x00", b"\xff"),
        *(
            b"Content-Length: ",
            b"5",
            b"0",
            b"Transfer-Encoding: ",
            b"chunked",
            b"5\r\n12345\r\n",
            b"0\r\n\r\n",
        ),
        *(b"Connection: close", b"Expect: 100-continue", b"Upgrade: websocket", b"Last-Event-ID: x"),
    ]
)
VALID_REQUESTS = st.sampled_from(
    [
        VALID,
        get("/topics/a?last_event_id=b", "Origin: http://a"),
        request("POST", "/body", "Content-Length: 5") + b"12345",
        request("POST", "/body", "Transfer-Encoding: chunked") + b"5\r\n12345\r\n0\r\n\r\n",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a valid request with some bytes removed, inserted or replaced."""
    raw = bytearray(draw(VALID_REQUESTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 4)))
        raw[start:end] = draw(st.binary(max_size=4) | PIECES)
    return bytes(raw)


@given(
    raw=st.binary(max_size=200) | st.lists(PIECES, max_size=20).map(b"".join) | mutated(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
def test_no_bytes_can_hang_or_break_the_server(raw: bytes, seed: int) -> None:
    trio.run(_answer_to_noise, raw, seed, clock=trio.testing.MockClock(autojump_threshold=0))


async def _answer_to_noise(raw: bytes, seed: int) -> None:
    target = Target(Server, max_duration=20)
    split = random.Random(seed).randint(0, len(raw))
    with trio.fail_after(PATIENCE):
        async with in_memory(target.server) as serving, serving.connect() as client:
            await client.send(raw[:split])
            await trio.testing.wait_all_tasks_blocked()
            with contextlib.suppress(trio.BrokenResourceError):  # refused already
                await client.send(raw[split:])
            reply = await client.closed()
    if reply:
        assert int(reply.split(b" ")[1]) in {100, 200, 204, *range(400, 500), 501, 505}, reply
    assert target.server.statistics().open_streams == 0


# Heads that are parsed without h11

FIELD_VALUES = st.binary(max_size=20).map(lambda value: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", value))
FIELD_NAMES = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12).map(str.encode)


@given(
    fields=st.lists(st.tuples(FIELD_NAMES, FIELD_VALUES), max_size=8),
    target=st.sampled_from([b"/", b"/a?b=c", b"http://other/x"]),
)
def test_fields_are_split_as_h11_splits_them(fields: list[tuple[bytes, bytes]], target: bytes) -> None:
    assume(not any(name.lower() in (b"host", b"content-length", b"transfer-encoding") for name, _ in fields))
    lines = [b"GET %b HTTP/1.1" % target, b"Host: test", *(b"%b:%b" % field for field in fields)]
    head = b"\r\n".join(lines)
    assert raw_fields(request_head.parse_head(head).headers) == request_head._parse_fields(head)
