"""The access log's lines about requests, where it is on."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_sse import Connection, HTTPException, Request, Response, Server
from trio_sse._asgi.types import Message, Receive, Scope, Send
from trio_sse.asgi import event_stream
from trio_sse.testing import Client

from ..support.leaks import LeakCheck
from ..support.serving import in_memory

LINE = re.compile(
    r"request peer=\S+ method=(\w+) path=(\S+) status=(\d+|-) duration=(\d+\.\d{3}) bytes=(\d+)( cut)?"
)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str, str, bool]]]:
    """Return the method, path and status of each line, and whether the response was cut."""
    caplog.set_level(logging.INFO, "trio_sse.access")

    def read() -> list[tuple[str, str, str, bool]]:
        texts = [each.getMessage() for each in caplog.records if each.name == "trio_sse.access"]
        found = [match for text in texts if (match := LINE.fullmatch(text))]
        assert len(found) == sum(text.startswith("request") for text in texts), texts
        return [(match[1], match[2], match[3], match[6] is not None) for match in found]

    return read


Lines = Callable[[], list[tuple[str, str, str, bool]]]


def make_server(app: Any = None, **options: Any) -> Server:
    server = Server(app, **options)

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.send("one")

    @server.endpoint("/fail")
    async def fail(request: Request) -> Response:
        raise HTTPException(418)

    return server


async def test_endpoints_and_refusals_have_a_line_and_streams_have_theirs(
    no_leak: LeakCheck, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    server = no_leak.watch(make_server(access_log=True))
    async with Client(server) as client:
        await client.get("/health?key=secret")
        await client.get("/missing")
        await client.get("/fail")
        await client.request("HEAD", "/live")
        async with client.stream("/live") as stream:
            await stream.event()
    assert lines() == [
        ("GET", "/health", "200", False),
        ("GET", "/missing", "404", False),
        ("GET", "/fail", "418", False),
        ("HEAD", "/live", "200", False),
    ]
    assert "secret" not in caplog.text


async def test_a_refused_stream_counts_its_own_answer_after_others_on_its_connection(
    no_leak: LeakCheck, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    server = no_leak.watch(make_server(access_log=True))

    @server.route("/refused")
    async def refused(connection: Connection) -> None:
        raise HTTPException(403, "x" * 100)

    async with in_memory(server) as serving, serving.connect() as client:
        for path in ("/health", "/refused", "/refused"):
            await client.sized_body(await client.get(path))
    assert [line[:3] for line in lines()] == [("GET", "/health", "200"), *[("GET", "/refused", "403")] * 2]
    sizes = [int(match[1]) for match in re.finditer(r"status=403 .* bytes=(\d+)", caplog.text)]
    assert len(set(sizes)) == 1
    assert 100 < sizes[0] < 500


async def test_without_the_option_requests_have_no_line(no_leak: LeakCheck, lines: Lines) -> None:
    async with Client(no_leak.watch(make_server())) as client:
        await client.get("/health")
    assert lines() == []


@pytest.mark.parametrize("is_logged", [True, False])
async def test_whose_a_stream_was_is_logged_only_on_demand(
    no_leak: LeakCheck, lines: Lines, caplog: pytest.LogCaptureFixture, is_logged: bool
) -> None:
    server = no_leak.watch(make_server(log_identities=is_logged))

    @server.on_connect
    def enter(connection: Connection) -> None:
        connection.identity = connection.request.query.get("user")

    async with Client(server) as client:
        await client.get("/live?user=ada")
        await client.get("/live")
    fields = [record.trio_sse for record in caplog.records if hasattr(record, "trio_sse")]
    ends = [one for one in fields if one["event"] == "close"]
    assert [one.get("identity") for one in ends] == ["ada" if is_logged else None, None]
    assert caplog.text.count("identity=ada") == is_logged
    assert ("ada" in caplog.text) == is_logged


# Requests to an app

RESPONSE = {"type": "http.response.start", "status": 201}


def body(data: bytes, *, goes_on: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": goes_on}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in one of several ways."""
    if scope["type"] != "http":
        raise RuntimeError
    match scope["path"]:
        case "/whole":
            await send(RESPONSE)
            await send(body(b"12345"))
        case "/cut":
            await send(RESPONSE)
            await send(body(b"12345", goes_on=True))
        case "/unsaid":  # its client has the whole body, as the length says
            await send(RESPONSE | {"headers": [(b"content-length", b"5")]})
            await send(body(b"12345", goes_on=True))
        case "/raise":
            raise ValueError
        case "/stream":
            await stream(scope, receive, send)


@event_stream
async def stream(connection: Connection) -> None:
    await connection.send("one")


async def test_requests_to_an_app_have_a_line(no_leak: LeakCheck, lines: Lines) -> None:
    async with Client(no_leak.watch(make_server(app, access_log=True))) as client:
        for path in ("/whole", "/cut", "/unsaid", "/raise"):
            await client.get(path)
        async with client.stream("/stream") as events:
            await events.event()
    assert lines() == [
        ("GET", "/whole", "201", False),
        ("GET", "/cut", "201", True),
        ("GET", "/unsaid", "201", False),
        ("GET", "/raise", "500", False),
    ]


@pytest.mark.parametrize("kind", ["app", "endpoint"])
async def test_a_client_that_leaves_before_its_answer_has_a_line_without_a_status(
    no_leak: LeakCheck, lines: Lines, kind: str
) -> None:
    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            while (await receive())["type"] != "http.disconnect":
                pass

    server = no_leak.watch(make_server(wait, access_log=True))

    @server.endpoint("/wait")
    async def endpoint(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    path = "/wait" if kind == "endpoint" else "/other"
    async with in_memory(server) as serving:
        client = serving.connect()
        await client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        await trio.testing.wait_all_tasks_blocked()
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
    assert lines() == [("GET", path, "-", False)]


async def test_the_line_counts_the_bytes_and_seconds_of_one_request(
    no_leak: LeakCheck, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await trio.sleep(2)
            await send(RESPONSE)
            await send(body(b"x" * 1000))
            await trio.sleep(5)  # after the response

    caplog.set_level(logging.INFO, "trio_sse.access")
    server = no_leak.watch(make_server(slow, access_log=True))
    async with in_memory(server) as serving, serving.connect() as client:
        for _ in range(2):
            head = await client.get("/")
            await client.sized_body(head)
    found = [LINE.fullmatch(each.getMessage()) for each in caplog.records if each.name == "trio_sse.access"]
    for match in found:
        assert match is not None
        assert float(match[4]) == 2
        assert 1000 < int(match[5]) < 1200
    assert len(found) == 2
