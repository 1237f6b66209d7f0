"""What a hostile or odd client can do to the streams of one HTTP/2 connection; the others go on.

`test_http2_connection.py` is about connections, and `tests/http2/` about frames that break the protocol.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Overflow, Request, Response

from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.client import Client
from ..support.http2_bridge import Http2Bridge
from ..support.http2_wire import RawPeer, ask, data, reset
from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.websocket_handlers import idle

LIVE = 1  # the stream of a client that does nothing wrong


class Site:
    """A server with a handler of each kind, and what becomes of them."""

    def __init__(self, make_server: MakeServer, **options: Any) -> None:
        options = {"http2_cleartext": True, "keepalive": 1000.0, **options}
        self.server = server = make_server(app=http_only(self._app), **options)
        self.running = 0  # handlers and calls of the app
        self.entered: list[str] = []
        self.ends: list[EndReason | None] = []
        self.goes_on = trio.Event()
        server.on_disconnect(lambda connection: self.ends.append(connection.end_reason))
        for path in ("/live", "/quiet", "/silent", "/lagging", "/large", "/three", "/stubborn", "/echo"):
            handler = getattr(self, path.replace("/", "_"))
            server.route(path, methods=["GET", "POST"])(self._counted(path, handler))
        server.endpoint("/endpoint")(self._endpoint)
        server.websocket("/websocket")(idle)

    def _counted(self, path: str, handler: Any) -> Any:
        async def handle(connection: Connection) -> None:
            self.entered.append(path)
            self.running += 1
            try:
                await handler(connection)
            finally:
                self.running -= 1

        return handle

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[RawPeer]:
        """Serve, and connect a client whose first stream is `/live`."""
        async with in_memory(self.server) as serving:
            ours, theirs = memory_stream_pair()
            serving.nursery.start_soon(self.server.serve_stream, theirs)
            self.nursery = serving.nursery
            async with RawPeer(ours) as peer:
                await peer.send(ask(LIVE, "/live"))
                assert f"{LIVE}: 200" in await peer.receive()
                yield peer

    async def check_others(self, peer: RawPeer) -> None:
        """Check that the other stream of the connection still receives what is published."""
        await self.server.hub.publish("live", f"after {self.entered}")
        await wait_all_tasks_blocked()
        await peer.receive()
        assert f"after {self.entered}".encode() in peer.log.bodies[LIVE]

    async def _live(self, connection: Connection) -> None:
        await connection.subscribe("live")

    async def _quiet(self, connection: Connection) -> None:
        await connection.start()
        await trio.sleep_forever()

    async def _silent(self, connection: Connection) -> None:
        await trio.sleep_forever()

    async def _lagging(self, connection: Connection) -> None:
        await connection.subscribe("live", overflow=Overflow.DISCONNECT, queue=4)

    async def _large(self, connection: Connection) -> None:
        await connection.send("x" * 200_000)

    async def _three(self, connection: Connection) -> None:
        for number in range(3):
            await connection.send(number)

    async def _stubborn(self, connection: Connection) -> None:
        with trio.CancelScope(shield=True):
            await self.goes_on.wait()

    async def _echo(self, connection: Connection) -> None:
        await connection.send(connection.request.body.decode())

    async def _endpoint(self, request: Request) -> Response:
        self.running += 1
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1

    async def _app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.entered.append(scope["path"])
        self.running += 1
        try:
            if scope["path"] == "/app/early":
                await answer(send, b"before the body")
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                if scope["path"] == "/app/flood":
                    await send({"type": "http.response.start", "status": 200})
                    while True:
                        await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
        finally:
            self.running -= 1


def post(path: str) -> Callable[[int], bytes]:
    """Return a request with a part of its body."""
    return lambda number: (
        ask(number, path, "POST", "content-length: 1000", is_whole=False) + data(number, bytes(500))
    )


def get(path: str, *lines: str) -> Callable[[int], bytes]:
    return lambda number: ask(number, path, "GET", *lines)


PHASES = {
    "before the head": get("/silent"),
    "in mid-stream": get("/quiet"),
    "while bytes are pending": get("/large"),
    "while a route waits for the body": post("/echo"),
    "after the body, in mid-stream": lambda n: (
        ask(n, "/quiet", "POST", is_whole=False) + data(n, b"", is_end=True)
    ),
    "while an endpoint works": get("/endpoint"),
    "while a poll waits": get("/live?wait=25", "accept: application/json"),
    "while an app waits for the body": post("/app/upload"),
    "after an app has answered before the body": post("/app/early"),
    "while an app floods": get("/app/flood"),
    "of a WebSocket": lambda n: ask(n, "/websocket", "CONNECT", "sec-websocket-version: 13", is_whole=False),
    "of a request that no route is for": post("/app/none"),
}


async def test_a_stream_may_be_reset_in_every_phase(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(make_server)
    number = LIVE
    async with site.connected() as peer:
        for at_once in (True, False):
            for phase, request in PHASES.items():
                number += 2
                if at_once:
                    await peer.send(request(number), reset(number))
                else:
                    await peer.send(request(number))
                    before = await peer.receive()
                    assert f"{number}: CANCEL" not in before, phase
                    await peer.send(reset(number))
                after = await peer.receive()
                assert not [text for text in after if text.startswith(f"{number}: ")], phase
                assert (site.running, site.server.statistics().open_streams) == (1, 1), phase
                assert site.server.statistics().endpoints == 0, phase
        assert "/live" in site.entered
        await site.check_others(peer)
    assert set(site.ends) == {EndReason.CLIENT_DISCONNECTED}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_stream_may_be_reset_in_a_drain(make_server: MakeServer, autojump_clock: MockClock) -> None:
    site = Site(make_server, drain_timeout=50)
    async with site.connected() as peer:
        await peer.send(ask(3, "/silent", "POST"), ask(5, "/stubborn", "POST"))
        await peer.receive()
        site.nursery.start_soon(site.server.drain)
        seen = await peer.receive()
        assert "GOAWAY 2147483647 NO_ERROR" in seen
        assert f"{LIVE}: INTERNAL_ERROR" in seen  # it is cut, with a time to reconnect
        assert b"retry: " in peer.log.bodies[LIVE]
        await peer.send(reset(3))
        await peer.receive()
        assert site.running == 1
        site.goes_on.set()
        seen = await peer.receive_all()
        assert seen[-1] == "GOAWAY 5 NO_ERROR" or "5: end" in seen
        assert "5: end" in seen
    assert site.ends == [EndReason.SERVER_SHUTDOWN, EndReason.CLIENT_DISCONNECTED, EndReason.FINISHED]


async def test_a_new_connection_may_still_send_its_request_in_a_drain(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    site = Site(make_server)
    async with in_memory(site.server) as serving:
        ours, theirs = memory_stream_pair()
        silent, also_theirs = memory_stream_pair()
        for stream in (theirs, also_theirs):
            serving.nursery.start_soon(site.server.serve_stream, stream)
        await wait_all_tasks_blocked()
        serving.nursery.start_soon(site.server.drain)
        began_at = trio.current_time()
        await trio.sleep(0.5)
        async with RawPeer(ours) as peer:
            await peer.send(ask(1, "/three", "POST"))
            assert "1: 503" in await peer.receive_all()
        assert await silent.receive_some() == b""
        assert trio.current_time() - began_at < 2


async def test_a_connection_on_which_nothing_arrives_is_closed_soon(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    site = Site(make_server)
    async with in_memory(site.server) as serving:
        for started, seconds in ((b"", 10), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 10), (b"PRI * H", 20)):
            ours, theirs = memory_stream_pair()
            serving.nursery.start_soon(site.server.serve_stream, theirs)
            began_at = trio.current_time()
            if started:
                await ours.send_all(started)
            while await ours.receive_some():
                pass
            assert trio.current_time() - began_at == pytest.approx(seconds, abs=0.5)


async def test_one_stream_more_than_there_may_be_is_refused(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    site = Site(make_server)
    async with site.connected() as peer:
        numbers = range(3, 3 + 2 * 249, 2)
        await peer.send(*[ask(number, "/quiet") for number in numbers])
        seen = await peer.receive()
        assert len([text for text in seen if text.endswith(": 200")]) == 249
        for last in (numbers[-1] + 2, numbers[-1] + 4):
            await peer.send(ask(last, "/quiet"))
            assert f"{last}: REFUSED_STREAM" in await peer.receive()
        await peer.send(reset(3), ask(last + 2, "/three"))
        assert f"{last + 2}: end" in await peer.receive()
        assert site.server.statistics().open_streams == 249
        await site.check_others(peer)


async def test_handlers_that_ignore_their_end_are_bounded(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    site = Site(make_server, http2_max_streams=5)
    async with site.connected() as peer:
        refused = 0
        for number in range(3, 103, 2):
            await peer.send(ask(number, "/stubborn"))
            seen = await peer.receive()
            refused += f"{number}: REFUSED_STREAM" in seen
            await peer.send(reset(number))
        assert site.running == 2 * 5
        assert refused == 50 - (site.running - 1)
        await site.check_others(peer)
        site.goes_on.set()
        await peer.receive()
        assert site.running == 1
        await peer.send(ask(201, "/three"))
        assert "201: end" in await peer.receive()


async def test_a_window_that_stays_shut_ends_its_stream_only(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    site = Site(make_server, write_timeout=5)
    async with site.connected() as peer:
        await peer.opens_window(LIVE, 1 << 24)
        await peer.send(ask(3, "/live"), ask(5, "/lagging"))
        await peer.receive()
        for number in range(60):
            await site.server.hub.publish("live", f"{number}".ljust(5000))
            await wait_all_tasks_blocked()
        seen = await peer.receive()
        assert site.ends == [EndReason.SLOW_CONSUMER]
        assert "5: INTERNAL_ERROR" in seen
        await trio.sleep(6)
        assert site.ends == [EndReason.SLOW_CONSUMER, EndReason.WRITE_TIMEOUT]
        assert "3: INTERNAL_ERROR" in await peer.receive()
        for number in range(60):
            assert f"data: {number} ".encode() in peer.log.bodies[LIVE]
        assert (len(peer.log.bodies[3]), len(peer.log.bodies[5])) == (65_535, 65_535)
        await site.check_others(peer)


async def test_a_window_may_open_byte_by_byte(make_server: MakeServer, autojump_clock: MockClock) -> None:
    site = Site(make_server)
    async with site.connected() as peer:
        await peer.send(b"\0\0\6\4\0\0\0\0\0" + b"\0\4" + bytes(4), ask(3, "/three"))  # no window at first
        seen = await peer.receive()
        assert [text for text in seen if text.startswith("3: ")] == ["3: 200"]
        while "3: end" not in seen:
            assert len(seen) < 200
            await peer.opens_window(3, 1)
            seen += await peer.receive()
        assert peer.log.bodies[3] == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
        await peer.opens_window(LIVE, 10_000)
        await site.check_others(peer)
        assert site.ends == [EndReason.FINISHED]


async def test_bodies_end_by_trailers_or_not_at_all(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    site = Site(make_server, body_timeout=5)
    head = ask(3, "/echo", "POST", "trailer: x-sum", is_whole=False)
    trailers = ask(3).replace(ask(3)[9:], b"")[:9]  # a head's frame with nothing in it
    trailers = b"\0\0\0" + trailers[3:]
    async with site.connected() as peer:
        await peer.send(head, data(3, b"with "), data(3, b""), data(3, b"trailers"), trailers)
        assert "3: end" in await peer.receive()
        assert peer.log.bodies[3] == b"data: with trailers\n\n"

        await peer.send(ask(5, "/echo", "POST", is_whole=False), data(5, b"never ends"))
        await trio.sleep(6)
        seen = await peer.receive()
        assert seen[seen.index("5: 408") :][-1] == "5: end"  # the rest of the body may come
        await trio.sleep(6)
        assert await peer.receive() == ["5: NO_ERROR"]  # it is not wanted any more

        await peer.send(ask(7, "/three"), data(7, b"after the end"))
        seen = await peer.receive()
        assert "7: STREAM_CLOSED" in seen
        await site.check_others(peer)


async def test_a_body_is_permitted_first_where_the_client_waits_for_that(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    site = Site(make_server)
    async with site.connected() as peer:
        await peer.send(ask(3, "/echo", "POST", "expect: 100-continue", is_whole=False))
        assert await peer.receive() == ["3: 100"]
        await peer.send(data(3, b"permitted", is_end=True))
        assert "3: end" in await peer.receive()
        assert peer.log.bodies[3] == b"data: permitted\n\n"


async def test_a_websocket_whose_client_ends_the_stream_has_left(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    site = Site(make_server)
    async with site.connected() as peer:
        await peer.send(ask(3, "/websocket", "CONNECT", "sec-websocket-version: 13", is_whole=False))
        assert "3: 200" in await peer.receive()
        await peer.send(data(3, b"", is_end=True))
        assert (await peer.receive())[-1] == "3: end"
        # Another one cannot even send a frame.
        await peer.send(ask(5, "/websocket", "CONNECT", "sec-websocket-version: 13"))
        assert (await peer.receive())[-1] == "5: end"
        assert site.ends == [EndReason.CLIENT_DISCONNECTED] * 2
        await site.check_others(peer)


# Bodies, both ways


@http_only
async def measure(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with the body, as it comes, or read nothing of it."""
    if scope["path"] == "/unread":
        await trio.sleep_forever()
    await send({"type": "http.response.start", "status": 200})
    has_more = True
    while has_more:
        message = await receive()
        has_more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": has_more})


async def test_bodies_of_any_size_flow_both_ways(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server(app=measure, max_body_size=1 << 22, http2_cleartext=True)

    @server.endpoint("/mirror", methods=["POST"])
    async def mirror(request: Request) -> Response:
        return Response(request.body)

    body = bytes(range(256)) * 4096  # 1 MiB: more than all windows
    ours, theirs = memory_stream_pair()
    async with in_memory(server) as serving, Client(Http2Bridge(ours)) as client:
        serving.nursery.start_soon(server.serve_stream, theirs)
        for path in ("/mirror", "/app"):
            head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, head.encode() + body)
                assert (await client.head()).status == 200
                assert await client.whole() == body


async def test_a_body_that_nobody_reads_holds_up_no_other(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(app=measure, http2_cleartext=True)
    async with in_memory(server) as serving:
        ours, theirs = memory_stream_pair()
        serving.nursery.start_soon(server.serve_stream, theirs)
        async with RawPeer(ours) as peer:
            await peer.send(ask(1, "/unread", "POST", is_whole=False))
            await peer.send(*[data(1, bytes(16_384)) for _ in range(4)])  # all that the window allows
            assert not [text for text in await peer.receive() if text.startswith("1: ")]
            await peer.send(ask(3, "/app", "POST", is_whole=False))
            for _ in range(40):
                await peer.opens_window(3, 32_768)
                await peer.send(data(3, bytes(16_384)), data(3, bytes(16_384)))
                assert any(text.startswith("3: window") for text in await peer.receive())
            await peer.send(data(3, b"end", is_end=True))
            assert "3: end" in await peer.receive()
            assert len(peer.log.bodies[3]) == 40 * 32_768 + 3
            await peer.send(data(1, b"x"))
            assert "1: FLOW_CONTROL_ERROR" in await peer.receive()


# What counts for each request


async def test_each_request_has_its_own_client_host_and_line(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(
        http2_cleartext=True,
        access_log=True,
        trusted_proxies=["127.0.0.1"],
        allowed_hosts=["test"],
        max_connections_per_host=1,
    )

    @server.endpoint("/who")
    async def who(request: Request) -> Response:
        return Response(request.peer)

    @server.route("/quiet")
    async def quiet(connection: Connection) -> None:
        await connection.start()
        await trio.sleep_forever()

    caplog.set_level("INFO", logger="trio_sse.access")
    async with on_sockets(server) as serving:
        stream = await trio.open_tcp_stream(*serving.address)
        async with RawPeer(stream) as peer:
            first, second = "x-forwarded-for: 192.0.2.1", "x-forwarded-for: 192.0.2.2"
            await peer.send(
                ask(1, "/who", "GET", first), ask(3, "/who", "GET", second), ask(5, "/who", host="bad")
            )
            seen: list[str] = []
            while not {"1: end", "3: end", "5: end"}.issubset(seen):
                seen += await peer.receive()
            assert "5: 421" in seen
            assert (peer.log.bodies[1], peer.log.bodies[3]) == (b"192.0.2.1", b"192.0.2.2")
            await peer.send(ask(7, "/quiet", "GET", first), ask(9, "/quiet", "GET", second))
            while not {"7: 200", "9: 200"}.issubset(seen):
                seen += await peer.receive()
            await peer.send(ask(11, "/quiet", "GET", first))
            while "11: end" not in seen:
                seen += await peer.receive()
            assert "11: 429" in seen
    lines = [record.getMessage() for record in caplog.records if record.name == "trio_sse.access"]
    for line in (
        "peer=192.0.2.1 method=GET path=/who status=200",
        "peer=192.0.2.2 method=GET path=/who status=200",
    ):
        assert len([one for one in lines if line in one]) == 1
    assert len([one for one in lines if one.startswith("open ")]) == 2
