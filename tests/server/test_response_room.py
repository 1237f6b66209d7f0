"""Large responses to many clients at once: who reads gets all of it, within the bound of what may wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Request, Response, Server

from ..support import serving as serving_module
from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.certificates import Contexts
from ..support.client import Client
from ..support.http2_client import Http2Connection
from ..support.leaks import LeakCheck
from ..support.serving import InMemory, OnSockets, in_memory, on_sockets

SIZE = 600_000  # more than the kernel buffers
ROOM = 4
MOST = ROOM * (SIZE + 1000) * 16 // 15  # some of it is for others
TRANSPORTS = ("plain", "tls", "http2", "http2 over tls")
PATHS = ("/endpoint", "/app")


class Body(bytes):
    """A body of which the test knows how many there are."""

    alive = most = 0

    def __init__(self, *_: object) -> None:
        Body.alive += 1
        Body.most = max(Body.most, Body.alive)

    def __del__(self) -> None:
        Body.alive -= 1


class Site:
    """A server with large responses, which no two clients share."""

    def __init__(self, no_leak: LeakCheck, **options: Any) -> None:
        self.server = no_leak.watch(
            Server(
                http_only(self.app),
                max_pending_bytes=MOST,
                send_buffer=4096,
                http2_cleartext=True,
                **options,
            )
        )
        self.is_open = trio.Event()
        self.ends: list[EndReason | None] = []
        Body.most = Body.alive

        @self.server.endpoint("/endpoint")
        async def endpoint(request: Request) -> Response:
            return Response(Body(SIZE))

        @self.server.endpoint("/later")
        async def later(request: Request) -> Response:
            await self.is_open.wait()
            return Response(Body(SIZE))

        @self.server.endpoint("/small")
        async def small(request: Request) -> Response:
            return Response("small")

        @self.server.route("/stream")
        async def stream(connection: Connection) -> None:
            await connection.subscribe("news")

        @self.server.on_disconnect
        def note(connection: Connection) -> None:
            self.ends.append(connection.end_reason)

    async def app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send, Body(SIZE))

    def check(self, *, cut: int = 0) -> None:
        """Check that nothing is left, and that the bound was kept."""
        statistics = self.server.statistics()
        assert (statistics.pending_bytes, statistics.pending_cut) == (0, cut)
        assert Body.most <= ROOM + 1  # one is being made
        room = self.server._manager.response_room
        assert (room.made, room.reserved) == (0, 0)


@asynccontextmanager
async def served(
    site: Site, transport: str, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OnSockets]:
    """Serve on sockets; the clock stands still unless a test moves it."""
    monkeypatch.setattr(serving_module, "over_http2", "http2" in transport)
    is_secure = "tls" in transport
    async with on_sockets(
        site.server,
        server_tls=contexts.server if is_secure else None,
        client_tls=contexts.client if is_secure else None,
    ) as serving:
        yield serving


async def take_whole(client: Client, path: str, sizes: list[int]) -> None:
    head = await client.get(path)
    sizes.append(len(await client.whole()) if head.status == 200 else -head.status)


async def blocked() -> None:
    """Wait until nothing is on its way between the server and its clients."""
    await wait_all_tasks_blocked(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_all_that_read_get_everything(
    no_leak: LeakCheck,
    mock_clock: MockClock,
    contexts: Contexts,
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    path: str,
) -> None:
    site, sizes = Site(no_leak), list[int]()
    async with served(site, transport, contexts, monkeypatch) as serving, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await serving.connect()) for _ in range(4 * ROOM)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(take_whole, client, path, sizes)
        assert sizes == [SIZE] * len(clients)
        site.check()


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_those_that_read_nothing_are_cut_for_those_that_do(
    no_leak: LeakCheck,
    mock_clock: MockClock,
    contexts: Contexts,
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    path: str,
) -> None:
    site, sizes = Site(no_leak), list[int]()
    async with served(site, transport, contexts, monkeypatch) as serving, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await serving.connect()) for _ in range(4 * ROOM)]
        for client in clients[:ROOM]:
            await client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            await blocked()
        async with trio.open_nursery() as nursery:
            for client in clients[ROOM:]:
                nursery.start_soon(take_whole, client, path, sizes)
            await blocked()
            assert sizes == []
            assert site.server.statistics().pending_bytes <= MOST
            mock_clock.jump(1)
            await blocked()
            assert sizes == []
            mock_clock.jump(3)
        assert sizes == [SIZE] * (3 * ROOM)
        cut = site.server.statistics().pending_cut
        assert 0 < cut <= ROOM
        await stack.aclose()
        await blocked()
        site.check(cut=cut)


@pytest.mark.slow
async def test_many_responses_on_one_connection_have_their_turns(
    no_leak: LeakCheck, mock_clock: MockClock
) -> None:
    site, bodies = Site(no_leak), list[int]()
    async with on_sockets(site.server) as serving:
        stream = await trio.open_tcp_stream(*serving.address)
        async with (
            trio.open_nursery() as nursery,
            await Http2Connection.open(stream, None, nursery) as connection,
        ):

            async def take() -> None:
                response = await connection.request("GET", "/endpoint")
                bodies.append(len(await response.whole()))

            async with trio.open_nursery() as taking:
                for _ in range(3 * ROOM):
                    taking.start_soon(take)
            nursery.cancel_scope.cancel()
        assert bodies == [SIZE] * (3 * ROOM)
        site.check()


async def test_of_responses_that_are_made_at_once_those_without_room_are_refused(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    """Nothing is known of the path, and all handlers have begun. So there is more than can wait."""
    site, sizes = Site(no_leak), list[int]()
    async with in_memory(site.server) as serving, trio.open_nursery() as nursery:
        for _ in range(2 * ROOM):
            nursery.start_soon(take_slowly, serving, "/later", sizes)
        await wait_all_tasks_blocked()
        site.is_open.set()
    assert sorted(sizes) == [-503] * ROOM + [SIZE] * ROOM
    async with in_memory(site.server) as serving, trio.open_nursery() as nursery:
        for _ in range(2 * ROOM):  # the path is known now
            nursery.start_soon(take_slowly, serving, "/later", sizes)
    assert sizes[-2 * ROOM :] == [SIZE] * (2 * ROOM)
    site.check()


async def take_slowly(serving: InMemory, path: str, sizes: list[int]) -> None:
    """Take a response at a pace that is slow, but not too slow."""
    async with serving.connect_lockstep() as client:
        head = await client.get(path)
        if head.status != 200:
            sizes.append(-head.status)
            return
        while len(client._buffer) < SIZE:
            await trio.sleep(1)
            assert await client._receive(), "cut"
        sizes.append(len(client._buffer))


@pytest.mark.parametrize("path", PATHS)
async def test_if_nobody_reads_all_end_and_nothing_is_left(
    no_leak: LeakCheck, autojump_clock: MockClock, path: str
) -> None:
    site = Site(no_leak, write_timeout=5.0)
    async with in_memory(site.server) as serving:
        clients = [serving.connect_lockstep() for _ in range(5 * ROOM)]
        for client in clients:
            await client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        await wait_all_tasks_blocked()
        assert 0 < site.server.statistics().pending_bytes <= MOST
        await trio.sleep(60)
        for client in clients:
            await trio.aclose_forcefully(client.stream)
        await wait_all_tasks_blocked()
        site.check(cut=site.server.statistics().pending_cut)
        assert site.server.statistics().endpoints == 0


async def test_what_is_small_does_not_wait_and_streams_go_on(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    site, sizes = Site(no_leak), list[int]()
    async with in_memory(site.server) as serving:
        streams = [serving.connect_lockstep() for _ in range(3)]
        for stream in streams:
            assert (await stream.get("/stream")).status == 200
        async with trio.open_nursery() as nursery:
            for _ in range(3 * ROOM):
                nursery.start_soon(take_slowly, serving, "/endpoint", sizes)
            for number in range(20):
                await site.server.hub.publish("news", f"{number}")
                for stream in streams:
                    assert (await stream.event()).data == f"{number}"
                async with serving.connect_lockstep() as client:
                    head = await client.get("/small")
                    assert await client.sized_body(head) == b"small"
                await trio.sleep(0.5)
        for stream in streams:
            await trio.aclose_forcefully(stream.stream)
    assert sizes == [SIZE] * (3 * ROOM)
    assert EndReason.SLOW_CONSUMER not in site.ends
    site.check()


async def test_who_waits_for_room_and_leaves_gives_its_turn_to_the_next(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    site, sizes = Site(no_leak), list[int]()
    async with in_memory(site.server) as serving, trio.open_nursery() as nursery:
        for _ in range(ROOM):
            nursery.start_soon(take_slowly, serving, "/endpoint", sizes)
        await trio.sleep(0.5)
        leaving = [serving.connect_lockstep() for _ in range(ROOM)]
        for client in leaving:
            await client.send(b"GET /endpoint HTTP/1.1\r\nHost: test\r\n\r\n")
        await wait_all_tasks_blocked()
        assert site.server.statistics().endpoints == ROOM
        for client in leaving:
            await trio.aclose_forcefully(client.stream)
        await wait_all_tasks_blocked()
        assert site.server.statistics().endpoints == 0
        nursery.start_soon(take_slowly, serving, "/endpoint", sizes)
    assert sizes == [SIZE] * (ROOM + 1)
    site.check()


async def test_a_request_that_waits_for_too_long_is_refused(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    site, sizes = Site(no_leak, request_timeout=3.0), list[int]()
    async with in_memory(site.server) as serving, trio.open_nursery() as nursery:
        for _ in range(ROOM):
            nursery.start_soon(take_slowly, serving, "/endpoint", sizes)
        await trio.sleep(0.5)
        async with serving.connect_lockstep() as client:
            assert (await client.get("/endpoint")).status == 503
    site.check()
