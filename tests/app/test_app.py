"""`Server(app)`: an ASGI app for requests that no route takes."""

from __future__ import annotations

from typing import Any

import pytest
import starlette.requests
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, Request, Response, Server

from ..support.asgi_apps import GET, Receive, Send, answer, http_only, ignore, post
from ..support.certificates import Contexts
from ..support.client import Client, Head
from ..support.leaks import LeakCheck, MakeServer
from ..support.serving import InMemory, in_memory, on_sockets


@http_only
async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send back each piece of the body as it arrives."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["raw_path"])]})
    goes_on = True
    while goes_on:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        goes_on = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": goes_on})


async def ask(serving: InMemory, request: bytes) -> tuple[Head, bytes, bool]:
    """Send a request; return the head, the body, and whether the server then closed the connection."""
    async with serving.connect() as client:
        await client.send(request)
        head = await client.head()
        body = await client.whole()
        with trio.move_on_after(5):
            return head, body, await client.closed() == b""
    return head, body, False


CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"

# Requests


async def test_receive_does_not_end_while_the_response_is_being_sent(
    serve: Any, autojump_clock: MockClock
) -> None:
    """Quart receives in another task, and cancels what it sends when the client has disconnected."""
    log: list[str] = []

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def receive_all() -> None:
            while True:
                log.append((await receive())["type"])
                await wait_all_tasks_blocked()  # the response is being sent

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_all)
            await answer(send, b"whole")
            log.append("sent")
            nursery.cancel_scope.cancel()

    async with serve(app) as serving, serving.connect_lockstep() as client:
        for method in ("HEAD", "GET"):
            await client.send(f"{method} / HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            await trio.sleep(1)
            assert (await client.head()).status == 200
        assert await client.whole() == b"whole"

    assert log == ["http.request", "sent", "http.disconnect"] * 2


async def test_the_scope_describes_the_request(serve: Any, autojump_clock: MockClock) -> None:
    scopes: list[dict[str, Any]] = []

    async def note(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scopes.append(scope)
            await answer(send)
        else:
            scope["state"]["made"] = 1
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return

    async with serve(note) as serving:
        await ask(serving, b"GET /gr%C3%BC%C3%9Fe/a%2Fb?q=%31&r HTTP/1.1\r\nHost: test\r\nX-One: 1\r\n\r\n")
    (scope,) = scopes
    assert {name: scope[name] for name in ("method", "path", "raw_path", "query_string", "root_path")} == {
        "method": "GET",
        "path": "/grüße/a/b",
        "raw_path": b"/gr%C3%BC%C3%9Fe/a%2Fb",
        "query_string": b"q=%31&r",
        "root_path": "",
    }
    assert (scope["http_version"], scope["scheme"], scope["asgi"]["version"]) == ("1.1", "http", "3.0")
    assert scope["headers"] == [(b"host", b"test"), (b"x-one", b"1")]
    assert (scope["client"], scope["server"], scope["state"]) == (None, None, {"made": 1})


async def test_the_scope_has_addresses_and_tls(make_server: MakeServer, contexts: Contexts) -> None:
    seen: list[Any] = []

    @http_only
    async def note(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen.append((scope["scheme"], scope["client"][0], scope["server"]))
        await answer(send)

    server = make_server(app=note)
    async with (
        on_sockets(server, server_tls=contexts.server, client_tls=contexts.client) as serving,
        await serving.connect() as client,
    ):
        await client.get("/")
        assert seen == [("https", "127.0.0.1", serving.address)]


async def test_routes_take_precedence(serve: Any, no_leak: LeakCheck) -> None:
    server = no_leak.watch(Server(echo))

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await connection.send("native")

    @server.endpoint("/endpoint")
    async def endpoint(request: Request) -> Response:
        return Response("native")

    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get("/endpoint")
        assert await client.whole() == b"native"
        head = await client.get("/other")
        assert (head.get("x-path"), await client.whole()) == ("/other", b"")
        await client.send(post(b"abc").replace(b"POST /", b"POST /stream"))
        assert (await client.head()).get("x-path") == "/stream"  # no route takes POST
        client.is_ended = False
        client.body = b""
        assert await client.whole() == b"abc"
        client.is_ended = False
        await client.get("/stream")
        assert [event.data for event in await client.rest()] == ["native"]


async def test_health_belongs_to_the_app_unless_it_is_enabled(serve: Any, autojump_clock: MockClock) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
    async with serve(ignore) as serving:
        assert (await ask(serving, request))[1] == b"ignored"
    async with serve(ignore, health_path="/health") as serving:
        assert (await ask(serving, request))[1] == b'{"status": "ok"}'


def test_an_app_must_be_callable() -> None:
    with pytest.raises(TypeError, match="must be an ASGI app"):
        Server("app")  # type: ignore[arg-type]  # that is the mistake


# Bodies


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


@pytest.mark.parametrize("request_bytes", [post(LARGE), CHUNKED + b"186a0\r\n%b\r\n0\r\n\r\n" % LARGE])
async def test_bodies_are_complete_and_the_connection_is_reused(serve: Any, request_bytes: bytes) -> None:
    async with serve(echo) as serving, serving.connect() as client:
        for _ in range(2):
            await client.send(request_bytes)
            await client.head()
            client.is_ended, client.body = False, b""
            assert await client.whole() == b"x" * 100_000


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


# Disconnects


async def test_an_app_that_waits_receives_the_disconnect(make_server: MakeServer) -> None:
    waits, disconnected = trio.Event(), trio.Event()

    @http_only
    async def wait(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert (await receive()) == {"type": "http.request", "body": b"", "more_body": False}
        waits.set()
        assert (await receive())["type"] == "http.disconnect"
        assert (await receive())["type"] == "http.disconnect"
        disconnected.set()

    async with on_sockets(make_server(app=wait)) as serving:
        async with await serving.connect() as client:
            await client.send(GET)
            await waits.wait()
            await wait_all_tasks_blocked()
        await disconnected.wait()


async def test_starlettes_is_disconnected_works(make_server: MakeServer) -> None:
    polls, disconnected = trio.Event(), trio.Event()

    @http_only
    async def poll(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = starlette.requests.Request(scope, receive)
        await request.body()
        assert not await request.is_disconnected()
        polls.set()
        while not await request.is_disconnected():  # noqa: ASYNC110  # what is tested
            await trio.sleep(0.01)
        disconnected.set()

    async with on_sockets(make_server(app=poll)) as serving:
        async with await serving.connect() as client:
            await client.send(GET)
            await polls.wait()
        await disconnected.wait()


async def test_in_memory_the_next_request_is_buffered_while_the_app_waits(serve: Any) -> None:
    release = trio.Event()

    @http_only
    async def wait(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass

            nursery.start_soon(watch)
            await release.wait()
            await answer(send, scope["path"].encode())
            nursery.cancel_scope.cancel()

    async with serve(wait) as serving, serving.connect() as client:
        await client.send(GET.replace(b"/ ", b"/one ") + GET.replace(b"/ ", b"/two "))
        await wait_all_tasks_blocked()
        release.set()
        for path in (b"/one", b"/two"):
            assert await client.sized_body(await client.head()) == path


async def test_a_client_that_reads_nothing_times_out(serve: Any, autojump_clock: MockClock) -> None:
    failed: list[OSError] = []

    @http_only
    async def flood(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        except OSError as error:
            failed.append(error)
            raise

    async with serve(flood, write_timeout=7) as serving, serving.connect_lockstep() as client:
        await client.send(GET)
        await trio.sleep(10)
        assert len(failed) == 1


# Responses


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
