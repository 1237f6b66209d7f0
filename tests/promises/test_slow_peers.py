"""Peers that are slow, silent, stuck or gone: each costs only itself, and not for long."""

from __future__ import annotations

import math
import socket
import struct

import pytest
import trio
import trio.testing

from trio_sse import Connection, EndReason

from ..support.certificates import Contexts
from ..support.client import Client
from ..support.hostile import Target, logged
from ..support.leaks import MakeServer
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS, until

VALID = b"GET /stream HTTP/1.1\r\nHost: test\r\nX: " + b"a" * 1000 + b"\r\n\r\n"


# Before a request is complete


@pytest.mark.parametrize("seconds_per_byte", [0.05, 1, 9])
async def test_a_slow_head_is_refused_after_ten_seconds_in_all(
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
    seconds_per_byte: float,
) -> None:
    caplog.set_level("INFO", logger="trio_sse")
    target = Target(make_server)

    async with in_memory(target.server) as serving, serving.connect() as client:

        async def drip() -> None:
            for byte in VALID:
                await client.send(bytes([byte]))
                await trio.sleep(seconds_per_byte)

        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            answer = await client.head()
            seconds = trio.current_time() - began_at
            nursery.cancel_scope.cancel()
        await client.sized_body(answer)
        after = await client.closed()

    assert (answer.status, answer.get("Connection"), after) == (408, "close", b"")
    assert math.isclose(seconds, 10)
    assert len(logged(caplog)) == 1
    target.assert_untouched()


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_silent_peer_is_closed_after_ten_seconds(
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
    sent: bytes,
) -> None:
    caplog.set_level("INFO", logger="trio_sse")

    async with in_memory(Target(make_server).server) as serving, serving.connect() as client:
        began_at = trio.current_time()
        await client.send(sent)
        reply = await client.closed()
        seconds = trio.current_time() - began_at

    assert reply == b""
    assert math.isclose(seconds, 10)
    assert logged(caplog) == []


async def test_each_request_of_a_connection_has_ten_seconds(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    async with in_memory(Target(make_server).server) as serving, serving.connect() as client:
        for _ in range(5):
            await trio.sleep(9)
            head = await client.get("/echo/a")
            await client.sized_body(head)
        await client.send(b"GET /ec")
        began_at = trio.current_time()
        await client.closed()
        seconds = trio.current_time() - began_at

    assert math.isclose(seconds, 10)


async def test_an_idle_connection_is_closed_after_the_keep_alive_time(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    async with in_memory(Target(make_server).server) as serving, serving.connect() as client:
        await client.sized_body(await client.get("/echo/a"))
        began_at = trio.current_time()
        assert await client.closed() == b""
        seconds = trio.current_time() - began_at

    assert math.isclose(seconds, 75)


async def test_a_peer_that_never_takes_its_refusal_is_closed(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(write_timeout=5)
    ours, theirs = trio.testing.lockstep_stream_pair()
    ended = trio.Event()

    async def serve() -> None:
        await server.serve_stream(theirs)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await ours.send_all(b"garbage\r\n\r\n")
        began_at = trio.current_time()
        with trio.fail_after(60):
            await ended.wait()
        seconds = trio.current_time() - began_at
        await trio.aclose_forcefully(ours)

    assert 5 <= seconds < 7


async def test_a_peer_that_goes_on_sending_after_its_refusal_is_closed(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    async with in_memory(make_server()) as serving, serving.connect() as client:
        await client.send(b"garbage\r\n\r\n")
        began_at = trio.current_time()

        async def go_on() -> None:
            while True:
                await client.send(b"a")
                await trio.sleep(1)

        with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
            await go_on()
        seconds = trio.current_time() - began_at

    assert 30 <= seconds < 32


async def test_a_peer_that_is_silent_after_its_refusal_is_closed(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    ended = trio.Event()
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        await make_server().serve_stream(theirs)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        began_at = trio.current_time()
        await ours.send_all(b"garbage\r\n\r\n")
        with trio.fail_after(60):
            await ended.wait()

    assert 5 <= trio.current_time() - began_at < 6


# While a stream is open


def stuck_client(address: tuple[str, int], path: str) -> socket.socket:
    """Connect a client whose kernel takes little, and which never reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(address)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return client


@pytest.mark.parametrize("path", ["/broadcast", "/sent"])
async def test_a_peer_that_never_reads_is_closed_and_others_notice_nothing(
    make_server: MakeServer, path: str
) -> None:
    server = make_server(write_timeout=0.3, send_buffer=4096)

    @server.route("/broadcast")
    async def broadcast(connection: Connection) -> None:
        await connection.subscribe("a")

    @server.route("/sent")
    async def sent(connection: Connection) -> None:
        while True:
            await connection.send("a" * 1000)
            await trio.sleep(0.001)

    async with on_sockets(server) as serving, await serving.connect() as reader:
        await reader.get("/broadcast")
        with stuck_client(serving.address, path):
            await until(lambda: server.statistics().open_streams == 2)
            numbers: list[object] = []
            while not server.statistics().ended:
                await server.hub.publish("a", str(len(numbers)).ljust(1000))
                numbers.append(int(str((await reader.event()).data)))
                await trio.sleep(0.001)
            ended = server.statistics().ended
            await server.hub.publish("a", "still here")
            assert (await reader.event()).data == "still here"

    assert ended == {EndReason.WRITE_TIMEOUT: 1}
    assert numbers == list(range(len(numbers)))


async def test_a_peer_that_reads_slowly_is_judged_by_its_queue(make_server: MakeServer) -> None:
    server = make_server(send_buffer=4096)

    @server.route("/")
    async def stream(connection: Connection) -> None:
        await connection.subscribe("a", queue=50)

    async with on_sockets(server) as serving:
        with stuck_client(serving.address, "/"):
            await until(lambda: server.statistics().open_streams)
            most = 0
            with trio.fail_after(SECONDS):
                while not server.statistics().ended:
                    await server.hub.publish("a", "a" * 1000)
                    most = max(most, server.hub.statistics().queued_events)
            assert server.statistics().ended == {EndReason.SLOW_CONSUMER: 1}

    assert 0 < most <= 50


async def test_half_close_is_a_disconnect(make_server: MakeServer) -> None:
    target = Target(make_server, keepalive=3600)

    async with on_sockets(target.server) as serving, await serving.connect() as client:
        await client.get("/topics/a")
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_eof()
        await until(lambda: target.server.statistics().ended)
        await client.rest()

    assert client.is_cut
    assert target.server.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}


async def test_half_close_with_the_request_is_a_disconnect(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with on_sockets(target.server) as serving, await serving.connect() as client:
        await client.send(b"GET /topics/a HTTP/1.1\r\nHost: test\r\n\r\n")
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_eof()
        await until(lambda: target.server.statistics().ended)

    assert target.server.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}


@pytest.mark.parametrize("path", ["/topics/a", "/sleeps"])
async def test_a_reset_ends_the_scope_soon(make_server: MakeServer, path: str) -> None:
    target = Target(make_server, keepalive=3600)
    left = trio.Event()

    @target.server.route("/sleeps")
    async def sleeps(connection: Connection) -> None:
        await connection.start()
        try:
            await trio.sleep_forever()
        finally:
            left.set()

    async with on_sockets(target.server) as serving:
        client = await serving.connect()
        await client.get(path)
        reset(client)
        await until(lambda: target.server.statistics().ended)

    assert left.is_set() == (path == "/sleeps")
    assert target.server.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}


async def test_a_reset_within_a_request_is_not_logged(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    target = Target(make_server)

    async with on_sockets(target.server) as serving:
        for raw in (b"", VALID[:20], b"POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12"):
            client = await serving.connect()
            if raw:
                await client.send(raw)
            await trio.testing.wait_all_tasks_blocked(0.001)
            reset(client)
        await trio.testing.wait_all_tasks_blocked(0.001)

    assert logged(caplog) == []
    target.assert_untouched()


def reset(client: Client) -> None:
    """Close a client's socket by RST."""
    assert isinstance(client.stream, trio.SocketStream)
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.stream.socket.close()


@pytest.mark.parametrize(("write_timeout", "milliseconds"), [(30, 35_000), (0.5, 5500), (math.inf, 0)])
async def test_the_kernel_also_times_out_a_vanished_peer(
    make_server: MakeServer, write_timeout: float, milliseconds: int
) -> None:
    server = make_server(write_timeout=write_timeout)
    found = []

    @server.on_connect
    def look(connection: Connection) -> None:
        accepted = connection._stream.transport.socket  # type: ignore[attr-defined]  # it came by a socket
        found.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        found.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    @server.route("/")
    async def stream(connection: Connection) -> None:
        await connection.send("a")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/")
        await client.rest()

    assert found == [milliseconds, 1]


async def test_a_tls_handshake_that_stalls_is_closed(
    make_server: MakeServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    contexts: Contexts,
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    monkeypatch.setattr("trio_sse._server.accepted._HANDSHAKE_SECONDS", 0.05)

    async with on_sockets(make_server(), server_tls=contexts.server) as serving:
        stream = await trio.open_tcp_stream(*serving.address)
        async with Client(stream) as client:
            await client.send(b"\x16\x03\x01\x02\x00\x01\x00")
            with trio.fail_after(SECONDS):
                reply = await client.closed()

    assert reply == b""
    assert [line for line in logged(caplog) if "handshake took too long" in line]
