"""The responses of an ASGI app."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Server

from ..support.asgi_apps import GET, Receive, Send, answer, ask, echo, http_only, ignore, post
from ..support.serving import in_memory


@pytest.mark.parametrize(
    ("status", "headers", "fields", "body"),
    [
        (200, [], {"Content-Length": "4", "Transfer-Encoding": None, "Connection": None}, b"body"),
        (200, [(b"content-length", b"4")], {"Content-Length": "4"}, b"body"),
        (200, [(b"Transfer-Encoding", b"gzip")], {"Transfer-Encoding": None}, b"body"),
        (200, [(b"date", b"today")], {"Date": "today"}, b"body"),
        (200, [(b"connection", b"close")], {"Connection": "close"}, b"body"),
        (200, [(b"connection", b"x, Close")], {"Connection": "close"}, b"body"),
        (426, [(b"upgrade", b"h2c")], {"Connection": "Upgrade", "upgrade": "h2c"}, b"body"),
        (426, [(b"upgrade", b"a"), (b"connection", b"close")], {"Connection": "close, Upgrade"}, b"body"),
        (204, [], {"Content-Length": None, "Transfer-Encoding": None}, b""),
        (304, [], {"Content-Length": None}, b""),
        (205, [], {"Content-Length": "0"}, b""),
        (599, [(b"x-mine", b"yes")], {"x-mine": "yes"}, b"body"),
    ],
)
async def test_responses_are_framed(
    serve: Any,
    autojump_clock: MockClock,
    status: int,
    headers: list[tuple[bytes, bytes]],
    fields: dict[str, str | None],
    body: bytes,
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, body, status, *headers)

    async with serve(app) as serving, serving.connect() as client:
        head = await client.get("/")
        assert head.status == status
        assert head.get("Date")
        assert {name: head.get(name) for name in fields} == fields
        assert await client.sized_body(head) == body
        if "close" not in (fields.get("Connection") or ""):
            assert (await client.get("/")).status == status  # the connection is reused


async def test_head_has_the_fields_and_no_body(serve: Any) -> None:
    async with serve(ignore) as serving, serving.connect() as client:
        of_head = await client.get("/", method="HEAD")
        head = await client.get("/")
        assert await client.sized_body(head) == b"ignored"
        assert of_head.get("Content-Length") == head.get("Content-Length") == "7"
        assert of_head.get("Transfer-Encoding") is None


async def test_the_length_is_unknown_of_an_app_that_sends_no_body_for_head(serve: Any) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, b"" if scope["method"] == "HEAD" else b"body")

    async with serve(app) as serving, serving.connect() as client:
        of_head = await client.get("/", method="HEAD")
        head = await client.get("/")
        assert await client.sized_body(head) == b"body"
        assert of_head.get("Content-Length") is of_head.get("Transfer-Encoding") is None


async def test_http_1_0_has_no_upgrade(serve: Any) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, b"body", 426, (b"upgrade", b"h2c"))

    async with serve(app) as serving, serving.connect() as client:
        await client.send(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        head = await client.head()
        assert (head.get("Upgrade"), head.get("Connection")) == (None, "close")


async def test_an_app_that_sends_without_a_pause_lets_others_run(serve: Any) -> None:
    has_head = False

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while not has_head:
            await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    async with serve(app) as serving, serving.connect() as client:
        await client.send(GET)
        await client.head()
        has_head = True
        assert await client.whole() == b"end"


async def test_to_http_1_0_a_body_ends_with_the_connection(serve: Any) -> None:
    async with serve(echo) as serving, serving.connect() as client:
        await client.send(post(b"abc").replace(b"HTTP/1.1", b"HTTP/1.0"))
        head = await client.head()
        assert (head.get("Transfer-Encoding"), head.get("Connection")) == (None, "close")
        assert await client.closed() == b"abc"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nSet-Cookie: evil")],
        [(b"x\r\nevil", b"a")],
        [(b"x: evil", b"a")],
        [(b"a", b"b"), (b"x", b"a\ny: evil")],
        [(b"", b"a")],
        [(b"content-length", b"many")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"0"), (b"content-length", b"1")],
    ],
)
async def test_invalid_header_fields_are_a_500(
    serve: Any, headers: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, b"", 200, *headers)

    async with serve(app) as serving:
        head, body, _ = await ask(serving, GET)
        assert (head.status, b"evil" in body) == (500, False)
    assert "the app failed for path=/" in caplog.text


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"type": "http.response.body"}],
        [{"type": "http.response.start", "status": 99}],
        [{"type": "http.response.start", "status": 200}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
        [{"type": "websocket.send"}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": 5}],
        [None],
    ],
)
async def test_an_app_that_does_not_answer_is_a_500(
    serve: Any, messages: list[dict[str, Any] | None], caplog: pytest.LogCaptureFixture
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        for message in messages:
            if message is None:
                raise ValueError("secret")
            await send(message)

    async with serve(app) as serving:
        head, body, _ = await ask(serving, GET)
        assert (head.status, b"secret" in body) == (500, False)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


@pytest.mark.parametrize("fails", ["raises", "returns", "short", "long"])
async def test_an_incomplete_response_is_truncated(
    serve: Any, fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"6")] if fails in ("short", "long") else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        if fails == "raises":
            raise ValueError("secret")
        if fails != "returns":
            body = b"" if fails == "short" else b"two and more"
            await send({"type": "http.response.body", "body": body})

    async with serve(app) as serving, serving.connect() as client:
        head = await client.get("/")
        if fails in ("raises", "returns"):
            assert await client.whole() == b"one"
            assert client.is_cut
        else:
            assert head.get("Content-Length") == "6"
            assert await client.closed() == b"one"
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


async def test_sending_after_the_response_is_an_error(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, b"whole")
        await send({"type": "http.response.body", "body": b"more"})

    async with serve(app) as serving:
        assert (await ask(serving, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))[1] == b"whole"
    assert "cannot follow" in caplog.text


async def test_what_receives_longer_than_the_call_runs_gets_a_disconnect(serve: Any) -> None:
    received: list[str] = []

    async with trio.open_nursery() as outer:

        async def receive_once(receive: Receive) -> None:
            received.append((await receive())["type"])

        @http_only
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            for _ in range(3):
                outer.start_soon(receive_once, receive)
            await wait_all_tasks_blocked()  # one waits for the body, and the others for that one
            await answer(send, b"whole")

        async with serve(app) as serving, serving.connect() as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n")
            assert (await client.head()).status == 200
            assert await client.whole() == b"whole"
    assert received == ["http.disconnect"] * 3


@pytest.mark.parametrize(
    ("method", "status", "fields"),
    [
        ("HEAD", 200, []),
        ("GET", 204, []),
        ("GET", 304, []),
        ("GET", 200, [(b"content-length", b"3")]),
    ],
)
async def test_an_app_that_fails_after_all_was_sent_closes_no_connection(
    method: str, status: int, fields: list[tuple[bytes, bytes]]
) -> None:
    """The client has a whole response, and its head has promised that the connection goes on."""

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"all", "more_body": True})
        raise ValueError("too late")

    async with in_memory(Server(app)) as serving, serving.connect() as client:
        for _ in range(2):
            await client.send(f"{method} / HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            head = await client.head()
            assert (head.status, head.get("Connection")) == (status, None)
            if fields:
                assert await client.sized_body(head) == b"all"
