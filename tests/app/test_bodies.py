"""The bodies that an ASGI app receives."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Server

from ..support.asgi_apps import Receive, Send, answer, ask, echo, http_only, ignore, post
from ..support.client import Client
from ..support.hosts import dial_socket
from ..support.leaks import LeakCheck
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS

CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_both_directions_stream_at_once(serve: Any) -> None:
    async with serve(echo) as serving, serving.connect() as client:
        await client.send(CHUNKED + b"4\r\nzero\r\n")
        assert (await client.head()).get("Transfer-Encoding") == "chunked"
        assert await client.read() == b"zero"
        for piece in (b"one", b"two"):
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert await client.read() == piece
        await client.send(b"0\r\n\r\n")
        assert await client.read() == b""
        assert client.is_ended


LARGE = b"x" * 100_000


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_bodies_are_complete_and_the_connection_is_reused(serve: Any, is_chunked: bool) -> None:
    """A chunked body that is still arriving may turn out malformed, so the connection is closed."""
    request = CHUNKED + b"186a0\r\n%b\r\n0\r\n\r\n" % LARGE if is_chunked else post(LARGE)
    async with serve(echo) as serving, serving.connect() as client:
        for _ in range(1 if is_chunked else 2):
            await client.send(request)
            assert (await client.head()).get("Connection") == ("close" if is_chunked else None)
            client.is_ended, client.body = False, b""
            assert await client.whole() == b"x" * 100_000


@pytest.mark.integration
@pytest.mark.parametrize("rest", [b"0\r\nHost: a\r\n\r\n", b"ffff\r\n0\r\n\r\n", b"5\n0\r\n\r\n"])
async def test_a_fault_in_a_body_at_the_end_of_the_response_ends_the_connection(
    no_leak: LeakCheck, rest: bytes
) -> None:
    """What follows the fault may be a part of the body, and no request."""
    has_received = trio.Event()
    paths: list[str] = []

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        paths.append(scope["path"])

        async def read() -> None:
            assert (await receive())["body"] == b"x"
            has_received.set()
            assert (await receive())["type"] == "http.disconnect"

        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await send({"type": "http.response.body", "body": b"x" * 4_000_000})  # waits for the client

    server = no_leak.watch(Server(app, max_body_size=100))
    with trio.fail_after(SECONDS):
        async with on_sockets(server) as serving, Client(await dial_socket(serving.address, 4096)) as client:
            await client.send(CHUNKED)
            assert (await client.head()).get("Connection") == "close"
            await client.send(b"1\r\nx\r\n")
            await has_received.wait()  # so the last part is being sent
            await client.send(rest + b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n")
            await wait_all_tasks_blocked(0.01)
            assert len(await client.whole()) == len(b"one") + 4_000_000
            assert client.is_ended
            assert await client.closed() == b""
    assert paths == ["/"]


@http_only
async def refuse_in_parts(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": b"who", "more_body": True})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize(
    ("head", "body", "goes_on"),
    [
        (post(b"", length=1_000_000), b"x" * 1_000_000, True),
        (CHUNKED, b"1\r\nx\r\n0\r\n\r\n", True),
        (CHUNKED, b"1\r\nx\r\n0\r\nHost: a\r\n\r\n", False),
        (CHUNKED, b"f4240\r\n%b\r\n0\r\n\r\n" % (b"x" * 1_000_000), False),
    ],
)
async def test_a_head_that_says_the_connection_goes_on_is_right(
    head: bytes, body: bytes, goes_on: bool
) -> None:
    """Whatever the body that the app has left; a proxy would send others' requests on the connection."""
    server = Server(refuse_in_parts, max_body_size=1_000_000)
    async with in_memory(server) as serving, serving.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send, (head + body) * (1 + goes_on))
        for _ in range(1 + goes_on):
            answer = await client.head()
            assert (answer.status, answer.get("Connection")) == (401, None if goes_on else "close")
            client.is_ended, client.body = False, b""
            assert await client.whole() == b"who"


async def test_100_continue_is_sent_when_the_app_reads(serve: Any) -> None:
    async with serve(echo) as serving, serving.connect() as client:
        await client.send(post(b"", b"Expect: 100-continue", length=3))
        assert (await client.head()).status == 100
        await client.send(b"abc")
        assert (await client.head()).status == 200
        assert await client.whole() == b"abc"


async def test_100_continue_is_not_sent_if_the_app_does_not_read(
    serve: Any, autojump_clock: MockClock
) -> None:
    async with serve(ignore) as serving:
        head, body, is_closed = await ask(serving, post(b"", b"Expect: 100-continue", length=3))
        assert (head.status, head.get("Connection"), body, is_closed) == (200, "close", b"ignored", True)


@pytest.mark.integration
@pytest.mark.parametrize("has_sockets", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
async def test_100_continue_never_follows_the_head(
    no_leak: LeakCheck, at_once: bool, has_sockets: bool
) -> None:
    @http_only
    async def answer_first(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def read() -> None:
            await receive()

        async def write() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})

        async with trio.open_nursery() as nursery:
            if at_once:
                nursery.start_soon(read)
            await write()
            if not at_once:
                nursery.start_soon(read)
            await trio.sleep(0.01)
            await send({"type": "http.response.body", "body": b"two"})
            nursery.cancel_scope.cancel()

    async def check(client: Client) -> None:
        await client.send(post(b"", b"Expect: 100-continue", length=3))
        head = await client.head()
        if head.status == 100:
            await client.send(b"abc")
            head = await client.head()
        else:
            assert head.get("connection") == "close"  # it may never send the body
        assert head.status == 200
        assert await client.whole() == b"onetwo"

    server = no_leak.watch(Server(answer_first))
    if has_sockets:
        async with on_sockets(server) as listening:
            for _ in range(10):
                async with await listening.connect() as client:
                    await check(client)
    else:
        async with in_memory(server) as serving:
            for _ in range(10):
                async with serving.connect() as client:
                    await check(client)


async def test_an_unread_body_closes_the_connection(serve: Any, autojump_clock: MockClock) -> None:
    async with serve(ignore) as serving:
        head, _, is_closed = await ask(serving, post(b"abc", length=100_000))
        assert (head.status, head.get("Connection"), is_closed) == (200, "close", True)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(b"", length=2000), 413),
        (CHUNKED + b"7d0\r\n", 413),
        (CHUNKED + b"xyz\r\n", 400),
        (post(b"abc", b"Expect: something"), 417),
        (post(b"abc", b"Transfer-Encoding: chunked"), 400),
        (post(b"abc", b"Content-Length: 3"), 400),
        (CHUNKED.replace(b"chunked", b"gzip"), 400),
        (CHUNKED.replace(b"chunked", b"gzip, chunked"), 501),
    ],
)
async def test_invalid_bodies_are_refused(
    serve: Any, autojump_clock: MockClock, request_bytes: bytes, status: int
) -> None:
    entered = []

    @http_only
    async def read(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            if not message["more_body"]:
                entered.append(message)

    async with serve(read, max_body_size=1000) as serving:
        head, _, is_closed = await ask(serving, request_bytes)
        assert (head.status, head.get("Connection"), is_closed) == (status, "close", True)
        assert not entered


@http_only
async def read_all(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            await answer(send, b"all read")
            return


async def test_a_body_that_is_cut_short_is_a_disconnect(serve: Any) -> None:
    seen: list[str] = []

    @http_only
    async def note(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            seen.append(message["body"].decode())
        seen.append(message["type"])
        with pytest.raises(OSError, match="gone"):
            await answer(send)

    async with serve(note) as serving:
        async with serving.connect() as client:
            await client.send(post(b"abc", length=100))
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
    assert seen == ["abc", "http.disconnect"]
