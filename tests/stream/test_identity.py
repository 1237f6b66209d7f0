"""Whose a stream is, when its credentials expire, and what is listed of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Server
from trio_sse._stream.identities import IdentityIndex
from trio_sse.testing import Client
from trio_sse.websocket import WebSocketConnection

from ..support.leaks import MakeServer
from ..support.serving import in_memory
from ..support.websocket_client import opened


class Ends:
    """A server with streams of an identity, and why they ended."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ends: list[EndReason | None] = []
        self.hook: Callable[[Connection], object] = lambda connection: None
        self.last: Connection

        @server.on_connect
        def enter(connection: Connection) -> None:
            self.last = connection
            connection.identity = connection.request.query.get("user")
            self.hook(connection)

        @server.on_disconnect
        def leave(connection: Connection) -> None:
            self.ends.append(connection.end_reason)

        @server.route("/rooms/{room}")
        async def rooms(connection: Connection, room: str) -> None:
            await connection.subscribe(room)

        @server.route("/pair")
        async def pair(connection: Connection) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.subscribe, "a", "b")
                nursery.start_soon(connection.subscribe, "b", "c")

    @property
    def identities(self) -> IdentityIndex[object]:
        return self.server._manager.identities  # type: ignore[return-value]


@pytest.fixture
def ends(make_server: MakeServer) -> Ends:
    return Ends(make_server())


async def test_streams_are_found_by_what_is_asked_for(ends: Ends, autojump_clock: MockClock) -> None:
    server = ends.server
    async with (
        Client(server) as client,
        client.stream("/rooms/a?user=ada&token=secret"),
        client.stream("/rooms/b?user=ada"),
        client.stream("/rooms/b"),
        client.stream("/pair?user=bob"),
    ):
        await trio.sleep(1)
        first, second, third, fourth = await server.collect_connections()
        whose = [one.identity for one in (first, second, third, fourth)]
        assert whose == ["ada", "ada", None, "bob"]
        assert (first.route, first.path, first.host) == ("/rooms/{room}", "/rooms/a", "server")
        assert (first.peer, first.http_version, first.is_secure) == ("test", "1.1", False)
        assert first.age >= first.idle >= 1
        assert sorted(fourth.topics) == ["a", "b", "c"]
        assert "secret" not in repr(first)

        def ids(**meant: Any) -> list[int]:
            return [one.id for one in server.connections(**meant)]

        assert ids(identity="ada") == [first.id, second.id]
        assert ids(identity="ada", topic="b") == [second.id]
        assert ids(topic="b") == [second.id, third.id, fourth.id]
        assert ids(route="/rooms/{room}", limit=2) == [first.id, second.id]
        assert ids(id=third.id) == [third.id]
        assert ids(id=99) == ids(identity="eve") == ids(limit=0) == []
        with pytest.raises(TypeError, match="which connections"):
            server.close_connections()
        assert server.close_connections(id=third.id) == 1
        assert server.close_connections(id=third.id) == 0
        assert server.close_connections(topic="b", route="/rooms/{room}") == 1
        assert server.close_connections(identity="ada", reconnect=False) == 1
        assert ids() == [fourth.id]
        await wait_all_tasks_blocked()
        assert sorted(str(end) for end in ends.ends) == [
            "EndReason.FINISHED",
            "EndReason.REVOKED",
            "EndReason.REVOKED",
        ]
    assert len(ends.identities) == 0


async def test_an_identity_can_change_and_is_forgotten_at_the_end(
    ends: Ends, autojump_clock: MockClock
) -> None:
    async with Client(ends.server) as client:
        async with client.stream("/rooms/a"):
            connection = ends.last
            assert connection.identity is None
            connection.identity = "ada"
            connection.identity = "ada"
            assert len(ends.identities) == 1
            connection.identity = "bob"
            assert ends.server.close_connections(identity="ada") == 0
            connection.identity = None
            assert (connection.identity, len(ends.identities)) == (None, 0)
            connection.identity = "bob"
        await wait_all_tasks_blocked()
        assert len(ends.identities) == 0
        connection.identity = "eve"  # in a hook, for example
        connection.expires_at = time.time() - 1
        assert (connection.identity, len(ends.identities)) == ("eve", 0)


@pytest.mark.parametrize(
    ("identity", "expires_at", "error"),
    [
        ("", math.nan, ValueError),
        ("x" * 257, 10**400, ValueError),
        ("a\nb", math.nan, ValueError),
        (7, "soon", TypeError),
        (7, True, TypeError),
    ],
)
async def test_an_identity_that_is_not_acceptable_is_refused(
    ends: Ends, identity: str, expires_at: float, error: type[Exception]
) -> None:
    async with Client(ends.server) as client, client.stream("/rooms/a"):
        with pytest.raises(error, match="identity"):
            ends.last.identity = identity
        with pytest.raises(error, match="1970"):
            ends.last.expires_at = expires_at
        assert ends.last.identity is None


@pytest.mark.parametrize(
    "when",
    ["at once", "at its time", "after the hook", "too late", "extended", "never"],
)
async def test_a_stream_ends_when_its_credentials_expire(
    make_server: MakeServer, autojump_clock: MockClock, when: str
) -> None:
    ends = Ends(make_server(max_duration=1000, keepalive=300))
    began_at = trio.current_time()

    def expire(seconds: float) -> Callable[[Connection], None]:
        def hook(connection: Connection) -> None:
            connection.expires_at = time.time() + seconds

        return hook

    match when:
        case "at once":
            ends.hook = expire(-5)
        case "at its time" | "extended" | "never":
            ends.hook = expire(100)
        case "too late":
            ends.hook = expire(5000)
    async with Client(ends.server, timeout=math.inf) as client, client.stream("/rooms/a") as stream:
        if when == "at once":
            assert stream.status == 503
        else:
            await trio.sleep(50)
        if when == "after the hook":
            expire(50)(ends.last)
        if when == "extended":
            expire(100)(ends.last)
        if when == "never":
            ends.last.expires_at = None
            assert ends.last.expires_at is None
        await stream.wait_over()
        if when != "at once":
            assert stream.is_cut
    lasted = trio.current_time() - began_at
    if when in ("never", "too late"):
        assert ends.ends == [EndReason.MAX_DURATION]
        assert 800 <= lasted <= 1001
    else:
        assert ends.ends == [EndReason.EXPIRED]
        expected = {"at once": 0, "at its time": 100, "after the hook": 100, "extended": 150}[when]
        assert expected - 1 < lasted < expected + 1


@pytest.mark.parametrize(("reconnect", "code"), [(True, 4004), (False, 1000)])
async def test_a_websocket_has_an_identity_and_gets_the_reason(
    make_server: MakeServer, reconnect: bool, code: int
) -> None:
    server = make_server()

    @server.websocket("/socket")
    async def socket(connection: WebSocketConnection) -> None:
        connection.identity = "ada"
        connection.expires_at = time.time() + 1000
        assert connection.expires_at is not None
        assert connection.identity == "ada"
        await connection.subscribe("a")

    async with in_memory(server) as memory, opened(memory, "/socket") as client:
        await wait_all_tasks_blocked()
        (info,) = server.connections(identity="ada")
        assert (info.transport, info.topics) == ("websocket", ("a",))
        assert server.close_connections(identity="ada", reconnect=reconnect) == 1
        assert await client.close_code() == (code, "revoked" if reconnect else "finished")
