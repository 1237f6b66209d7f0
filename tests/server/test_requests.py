"""Requests that are accepted, and the connections that carry them."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
import trio
import trio.testing

from trio_sse import Request, Response

from ..support.hostile import Target, logged, send_in_pieces
from ..support.leaks import MakeServer
from ..support.raw_requests import VALID, get, request
from ..support.serving import in_memory, on_sockets


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(VALID, id="plain"),
        pytest.param(b"\r\n" + VALID, id="an empty line before it"),
        pytest.param(request("GET", "http://other/stream", host="Other:80"), id="absolute-form"),
        pytest.param(
            request("GET", "HTTPS://other:443/stream?a=b", host="other"), id="absolute-form with query"
        ),
        pytest.param(get("/str%65am"), id="percent-encoded"),
        pytest.param(get("/stream?a|[b]{c}^d`e\\f"), id="characters that browsers do not encode"),
        pytest.param(get("/stream", "Cookie: a=b", "Cookie: c=d"), id="two cookies"),
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


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/say/gr%C3%BC%c3%9fe%20+%2F", "grüße +/"),
        ("/say/a%2fb%252F", "a/b%2F"),
        ("/say/%2F", "/"),
        ("/say/%2e%2E.", "..."),
        ("/say/a%5Cb", "a\\b"),
        ("/files/a/b%2Fc", "a/b/c"),
        ("/pair/a%2Fb-c%2fd", "a/b c/d"),  # without an expression
        ("/say%2Fa", None),
        ("/say/a/b", None),
        ("/say/", None),
        ("/number/1%2F", None),
    ],
)
async def test_a_path_is_split_before_it_is_decoded(
    make_server: MakeServer, path: str, value: str | None
) -> None:
    server = make_server()

    @server.endpoint("/say/{text}")
    @server.endpoint("/files/{text:path}")
    async def say(request: Request, text: str) -> Response:
        assert request.path == unquote(path)
        return Response(text)

    @server.endpoint("/pair/{one}-{two}")
    async def pair(request: Request, one: str, two: str) -> Response:
        return Response(f"{one} {two}")

    @server.endpoint("/number/{number:int}")
    async def number(request: Request, number: int) -> Response:
        return Response("number")

    async with in_memory(server) as serving, serving.connect() as client:
        head = await client.get(path)
        body = await client.sized_body(head)

    assert (head.status, body.decode()) == ((404, "Not Found\n") if value is None else (200, value))


@pytest.mark.parametrize(
    "path",
    [
        *("/files/..", "/files/.", "/files/../x", "/files/a/../../x", "/./files/a", "/files/a/."),
        *(
            "/files/%2e%2e",
            "/files/%2E",
            "/files/.%2e/x",
            "/files/..%2Fx",
            "/files/a%2F..",
            "/files/a%2f.%2fb",
        ),
    ],
)
async def test_a_path_with_a_dot_segment_has_no_route(make_server: MakeServer, path: str) -> None:
    server = make_server()

    @server.endpoint("/{rest:path}")
    async def rest(request: Request, rest: str) -> Response:
        raise AssertionError(rest)

    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get(path)).status == 404


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
    assert target.entered == ["/stream", "/echo"]
    assert target.server.statistics().opened == 1


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

    assert target.entered == ["/echo", "/echo", "/stream", "/stream"] * 2
    assert target.server.statistics().opened == 4


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
