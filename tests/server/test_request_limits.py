"""The bounds on requests: those that fit the server's own routes, and those that fit apps."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Request, Response, Server

from ..support.asgi_apps import Receive, Send, answer, http_only, post
from ..support.cases import each_case
from ..support.leaks import MakeServer
from ..support.serving import in_memory

KIB = 1024


@http_only
async def count(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Respond with the body's size."""
    size, goes_on = 0, True
    while goes_on:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, goes_on = size + len(message["body"]), message["more_body"]
    await answer(send, b"%d" % size)


def server_with_route(make_server: MakeServer, **options: Any) -> Server:
    server = make_server(**options)

    @server.endpoint("/route", methods=["GET", "POST"])
    async def route(request: Request) -> Response:
        return Response(str(len(request.body)))

    return server


async def status_of(server: Server, request: bytes) -> int:
    async with in_memory(server) as serving, serving.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(send_all, client, request)
        status = (await client.head()).status
        nursery.cancel_scope.cancel()
    return status


async def send_all(client: Any, request: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # it has been refused
        await client.send(request)


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


QUERY = "?" + "&".join(f"id={number}" for number in range(150))
LONG = "?" + "x" * 9 * KIB
FIELDS = [f"X-{number}: 1" for number in range(120)]
LARGE = ["X-Token: " + "x" * 20 * KIB]


@pytest.mark.parametrize(
    ("request_of", "refusal"),
    [
        (lambda path: get(path + QUERY), 400),
        (lambda path: get(path + LONG), 414),
        (lambda path: get(path, *FIELDS), 431),
        (lambda path: get(path, *LARGE), 431),
        (lambda path: post(bytes(2000 * KIB)).replace(b" / ", b" %b " % path.encode(), 1), 413),
    ],
    ids=["query", "target", "fields", "size", "body"],
)
async def test_an_app_accepts_what_the_servers_own_routes_refuse(
    make_server: MakeServer, request_of: Any, refusal: int
) -> None:
    assert await status_of(make_server(app=count), request_of("/app")) == 200
    assert await status_of(server_with_route(make_server), request_of("/route")) == refusal
    if refusal in (400, 413):  # what depends on the path
        assert await status_of(server_with_route(make_server, app=count), request_of("/route")) == refusal


@pytest.mark.parametrize(
    ("options", "good", "bad", "refusal"),
    [
        ({"max_body_size": 10}, post(bytes(10)), post(bytes(11)), 413),
        ({"max_target_size": 20}, get("/" * 20), get("/" * 21), 414),
        ({"max_target_size": 20}, get("/"), b"GET " + bytes(b"/" * 100), 414),
        ({"max_header_fields": 3}, get("/", "A: 1", "B: 1"), get("/", "A: 1", "B: 1", "C: 1"), 431),
        ({"max_header_size": 200}, get("/"), get("/", "A: " + "x" * 200), 431),
        ({"max_header_size": 200}, get("/"), b"GET / HTTP/1.1\r\nA: " + b"x" * 200, 431),
    ],
)
async def test_the_bounds_are_options(
    make_server: MakeServer, options: dict[str, int], good: bytes, bad: bytes, refusal: int
) -> None:
    server = make_server(app=count, **options)
    assert await status_of(server, good) == 200
    assert await status_of(server, bad) == refusal


@each_case(
    "option", ["max_target_size", "max_header_fields", "max_header_size", "body_timeout", "keep_alive"]
)
def test_a_bound_must_be_positive(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        Server(**{option: 0})  # type: ignore[arg-type]  # one of several types


async def test_an_upload_to_an_app_may_be_slow_but_not_pause(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async with in_memory(make_server(app=count)) as serving, serving.connect() as client:
        await client.send(post(b"", length=200))
        for _ in range(200):
            await trio.sleep(20)
            await client.send(b"x")
        assert (await client.head()).status == 200
        assert await client.whole() == b"200"
        await client.send(post(b"x", length=200))
        began_at = trio.current_time()
        assert (await client.head()).status == 408
        assert trio.current_time() - began_at == pytest.approx(30, abs=0.1)


async def test_a_body_of_which_a_route_holds_all_is_bounded_in_all(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = server_with_route(make_server, body_timeout=50)
    async with in_memory(server) as serving, serving.connect() as client:
        await client.send(post(b"", length=200).replace(b" / ", b" /route ", 1))
        for _ in range(2):
            await trio.sleep(20)
            await client.send(b"x")
        assert (await client.head()).status == 408
        assert trio.current_time() == pytest.approx(50, abs=0.1)


@pytest.mark.parametrize(("options", "seconds"), [({}, 75), ({"keep_alive": 300}, 300)])
async def test_an_idle_connection_is_kept_for_as_long_as_proxies_keep_theirs(
    make_server: MakeServer, autojump_clock: MockClock, options: dict[str, float], seconds: float
) -> None:
    async with in_memory(server_with_route(make_server, **options)) as serving:
        async with serving.connect() as client:
            for _ in range(3):
                await client.get("/route")
                await client.whole()
                await trio.sleep(seconds - 1)
            await client.get("/route")
            await client.whole()
            began_at = trio.current_time()
            assert await client.closed() == b""
            assert trio.current_time() - began_at == pytest.approx(seconds, abs=0.1)
        async with serving.connect() as new:  # that has sent nothing yet
            began_at = trio.current_time()
            assert await new.closed() == b""
            assert trio.current_time() - began_at == pytest.approx(10, abs=0.1)


async def test_the_time_of_a_head_begins_with_its_first_byte(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async with in_memory(server_with_route(make_server)) as serving, serving.connect() as client:
        await client.get("/route")
        await client.whole()
        await trio.sleep(70)
        await client.send(b"GET /")
        await trio.sleep(9)
        await client.send(b"route HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await client.head()).status == 200
        await client.whole()
        await client.send(b"GET /")
        began_at = trio.current_time()
        assert (await client.head()).status == 408
        assert trio.current_time() - began_at == pytest.approx(10, abs=0.1)
