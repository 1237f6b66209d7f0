"""Streams under TLS, over real sockets."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_sse import Connection, EndReason, Server
from trio_sse._transport.tls import TLSTransport

from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.certificates import Contexts, make_contexts
from ..support.client import Client, abort
from ..support.hostile import Target, logged
from ..support.leaks import MakeServer
from ..support.serving import OnSockets, on_sockets
from ..support.waiting import SECONDS, until


@asynccontextmanager
async def under_tls(server: Server, contexts: Contexts) -> AsyncIterator[OnSockets]:
    """Serve under TLS."""
    async with on_sockets(server, server_tls=contexts.server, client_tls=contexts.client) as serving:
        yield serving


async def test_streams_and_responses_share_one_connection(
    make_server: MakeServer, contexts: Contexts
) -> None:
    target = Target(make_server)

    async with under_tls(target.server, contexts) as serving, await serving.connect() as client:
        for _ in range(2):
            head = await client.get("/stream")
            events = await client.rest()
            assert (head.status, [event.data for event in events]) == (200, ["streamed"])
            assert client.is_ended
            assert await client.sized_body(await client.get("/echo/a")) == b"a"

    assert target.entered == ["/stream", "/echo"] * 2


async def test_a_body_is_received(make_server: MakeServer, contexts: Contexts) -> None:
    target = Target(make_server)
    body = b"a" * 200_000
    head = f"POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async with under_tls(target.server, contexts) as serving, await serving.connect() as client:
        await client.send(head + body)
        assert (await client.head()).status == 200
        await client.rest()

    assert target.bodies == [body]


async def test_a_broadcast_is_written_directly(
    make_server: MakeServer, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(make_server)
    writers = []
    flush_nowait = TLSTransport.flush_nowait

    def noting(self: TLSTransport, now: float) -> None:
        writers.append(trio.lowlevel.current_task().name)
        flush_nowait(self, now)

    async with under_tls(target.server, contexts) as serving:
        clients = [await serving.connect() for _ in range(3)]
        for client in clients:
            await client.get("/topics/a")
        await until(lambda: target.server.hub.statistics().subscriptions == 3)
        await trio.testing.wait_all_tasks_blocked(0.01)
        monkeypatch.setattr(TLSTransport, "flush_nowait", noting)
        await target.server.hub.publish("a", "direct")
        received = [(await client.event()).data for client in clients]
        for client in clients:
            await trio.aclose_forcefully(client.stream)

    assert received == ["direct"] * 3
    assert len(writers) == 3
    assert len(set(writers)) == 1
    assert "run_hub" in writers[0]


@pytest.mark.parametrize("is_polite", [True, False])
async def test_a_disconnect_is_noticed(make_server: MakeServer, contexts: Contexts, is_polite: bool) -> None:
    target = Target(make_server)

    async with under_tls(target.server, contexts) as serving:
        client = await serving.connect()
        await client.get("/topics/a")
        if is_polite:
            await client.stream.aclose()
        else:
            await trio.aclose_forcefully(client.stream)
        await until(lambda: target.server.statistics().ended)

    assert target.server.statistics().ended == {EndReason.CLIENT_DISCONNECTED: 1}


async def test_a_close_between_requests_is_not_logged(
    make_server: MakeServer, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    target = Target(make_server)

    async with under_tls(target.server, contexts) as serving:
        for close in (trio.abc.AsyncResource.aclose, trio.aclose_forcefully):
            client = await serving.connect()
            await client.sized_body(await client.get("/echo/a"))
            await client.stream.aclose() if close is not trio.aclose_forcefully else await close(
                client.stream
            )
        await trio.testing.wait_all_tasks_blocked(0.001)

    assert [line for line in logged(caplog) if not line.startswith("serving on")] == []


async def test_the_server_sends_close_notify(make_server: MakeServer, contexts: Contexts) -> None:
    """Without it, a client cannot tell a body's end from an attacker's truncation."""
    target = Target(make_server)

    async with under_tls(target.server, contexts) as serving, await serving.connect() as client:
        await client.sized_body(await client.get("/echo/a", "Connection: close"))
        with trio.fail_after(SECONDS):
            assert await client.stream.receive_some() == b""  # an SSLError, if it were missing


async def test_a_refused_request_is_answered(make_server: MakeServer, contexts: Contexts) -> None:
    target = Target(make_server)

    async with under_tls(target.server, contexts) as serving, await serving.connect() as client:
        await client.send(b"garbage\r\n\r\n")
        head = await client.head()
        await client.sized_body(head)
        with trio.fail_after(SECONDS):
            after = await client.stream.receive_some()  # an SSLError, if the server hadn't sent close_notify

    assert (head.status, head.get("Connection"), after) == (400, "close", b"")
    target.assert_untouched()


async def test_plain_http_to_a_tls_port_is_refused(
    make_server: MakeServer, contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    target = Target(make_server)

    async with (
        on_sockets(target.server, server_tls=contexts.server) as serving,
        await serving.connect() as client,
    ):
        await client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        await client.closed()

    assert len([line for line in logged(caplog) if "the TLS handshake failed" in line]) == 1
    assert not [record for record in caplog.records if record.exc_info]
    target.assert_untouched()


@pytest.mark.parametrize("versions", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_that_does_not_trust_the_certificate_is_harmless(
    make_server: MakeServer, contexts: Contexts, caplog: pytest.LogCaptureFixture, versions: ssl.TLSVersion
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    target = Target(make_server)
    stranger = ssl.create_default_context()
    stranger.minimum_version = stranger.maximum_version = versions

    async with on_sockets(target.server, server_tls=contexts.server, client_tls=stranger) as serving:
        async with await serving.connect() as client:
            with pytest.raises(trio.BrokenResourceError):
                await client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
        await until(lambda: any("the TLS handshake failed" in line for line in logged(caplog)))

    assert len([line for line in logged(caplog) if "the TLS handshake failed" in line]) == 1
    assert not [record for record in caplog.records if record.exc_info]
    target.assert_untouched()


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_handshake_that_is_broken_off_is_harmless(
    make_server: MakeServer, contexts: Contexts, caplog: pytest.LogCaptureFixture, sent: bytes, is_reset: bool
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    target = Target(make_server)

    async with on_sockets(target.server, server_tls=contexts.server) as serving:
        async with await serving.connect() as client:
            await client.send(sent)
            if is_reset:
                assert isinstance(client.stream, trio.SocketStream)
                await abort(client.stream)
        await trio.testing.wait_all_tasks_blocked(0.01)

    assert not [record for record in caplog.records if record.exc_info]
    target.assert_untouched()


async def test_a_slow_client_catches_up_intact(make_server: MakeServer, contexts: Contexts) -> None:
    server = make_server(send_buffer=4096)

    @server.route("/")
    async def stream(connection: Connection) -> None:
        await connection.subscribe("a")

    async with under_tls(server, contexts) as serving, await serving.connect() as client:
        await client.get("/")
        sent = [random.Random(number).randbytes(2000).hex() for number in range(200)]
        for data in sent:
            await server.hub.publish("a", data)
        await trio.testing.wait_all_tasks_blocked(0.01)
        lagged = server.hub.statistics().queued_events
        received = [(await client.event()).data for _ in sent]
        await server.hub.publish("a", "live again")
        last = await client.event()

    assert lagged > 0
    assert received == sent
    assert last.data == "live again"


async def test_coalesced_events_reach_a_slow_client(make_server: MakeServer, contexts: Contexts) -> None:
    server = make_server(send_buffer=4096)
    sent = [random.Random(number).randbytes(300).hex() for number in range(2000)]

    @server.route("/")
    async def stream(connection: Connection) -> None:
        for data in sent:
            await connection.send(data)

    async with under_tls(server, contexts) as serving, await serving.connect() as client:
        await client.get("/")
        await trio.testing.wait_all_tasks_blocked(0.01)
        received = [event.data for event in await client.rest()]

    assert received == sent


async def test_a_client_that_never_reads_is_disconnected(make_server: MakeServer, contexts: Contexts) -> None:
    server = make_server(send_buffer=4096, write_timeout=0.2)

    @server.route("/")
    async def stream(connection: Connection) -> None:
        while True:
            await connection.send("a" * 10_000)

    async with under_tls(server, contexts) as serving:
        plain = trio.socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await plain.connect(serving.address)
        stream_ = trio.SSLStream(trio.SocketStream(plain), contexts.client, server_hostname="localhost")
        async with Client(stream_) as client:
            await client.get("/")
            await until(lambda: server.statistics().ended)

    assert server.statistics().ended == {EndReason.WRITE_TIMEOUT: 1}


async def test_many_events_of_all_sizes_arrive_intact(make_server: MakeServer, contexts: Contexts) -> None:
    server = make_server()
    sizes = [1, 15, 16, 17, 16_383, 16_384, 16_385, 100_000, 1]

    @server.route("/")
    async def stream(connection: Connection) -> None:
        for size in sizes:
            await connection.send("a" * size)

    async with under_tls(server, contexts) as serving, await serving.connect() as client:
        await client.get("/")
        received = [len(str(event.data)) for event in await client.rest()]

    assert received == sizes


async def test_a_context_for_clients_is_refused_when_serving_begins(
    make_server: MakeServer, contexts: Contexts
) -> None:
    with pytest.raises(ValueError, match="must be a server's"):
        await make_server().serve("127.0.0.1", 0, ssl_context=contexts.client)


async def test_a_context_that_is_changed_later_refuses_clients(
    make_server: MakeServer,
    contexts: Contexts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ssl.SSLError("changed")

    async with on_sockets(make_server(), server_tls=contexts.server) as serving:
        monkeypatch.setattr("trio_sse._server.serving.TLSTransport", fail)
        with trio.fail_after(SECONDS):
            async with Client(await trio.open_tcp_stream(*serving.address)) as client:
                assert await client.closed() == b""

    assert [record.getMessage() for record in caplog.records] == ["cannot serve TLS: ('changed',)"]


# What the client says besides bytes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_without_a_certificate_learns_why_it_is_refused(
    make_server: MakeServer, version: ssl.TLSVersion
) -> None:
    contexts = make_contexts()
    contexts.server.verify_mode = ssl.CERT_REQUIRED
    contexts.client.minimum_version = contexts.client.maximum_version = version
    server = make_server()

    async with under_tls(server, contexts) as serving:
        for _ in range(20):
            async with await serving.connect() as client:
                with pytest.raises(trio.BrokenResourceError) as caught:  # noqa: PT012 - in either of the two
                    await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 5000)
                    await client.stream.receive_some()
                assert "alert" in str(caught.value.__cause__).lower()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("is_at_once", [False, True])
async def test_a_close_notify_ends_a_stream_and_is_answered(
    make_server: MakeServer, version: ssl.TLSVersion, is_at_once: bool
) -> None:
    contexts = make_contexts()
    contexts.client.minimum_version = contexts.client.maximum_version = version
    server = make_server()
    reasons: list[EndReason | None] = []
    server.on_disconnect(lambda connection: reasons.append(connection.end_reason))

    @server.route("/")
    async def idle(connection: Connection) -> None:
        if not is_at_once:
            await connection.send("first")
        await trio.sleep_forever()

    async with under_tls(server, contexts) as serving:
        raw = await trio.open_tcp_stream(*serving.address)
        async with raw:
            tls = trio.SSLStream(raw, contexts.client, server_hostname="localhost")
            await tls.send_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            if not is_at_once:
                client = Client(tls)
                await client.head()
                await client.event()
            with trio.fail_after(SECONDS):
                await tls.unwrap()  # returns when the server has answered
                await until(lambda: bool(reasons))

    assert reasons == [EndReason.CLIENT_DISCONNECTED]


async def test_a_request_that_follows_while_an_app_waits_is_not_lost(contexts: Contexts) -> None:
    arrived = trio.Event()

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        with trio.move_on_after(0 if arrived.is_set() else SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)  # until the client disconnects
                await arrived.wait()
                nursery.cancel_scope.cancel()
        await answer(send, scope["path"].encode())

    async with under_tls(Server(app), contexts) as serving, await serving.connect() as client:
        await client.send(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n")
        await trio.sleep(0.05)
        await client.send(b"GET /b HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
        await trio.sleep(0.05)
        arrived.set()
        for path in (b"/a", b"/b", b"/b"):
            assert await client.sized_body(await client.head()) == path


async def test_what_tls_has_to_say_is_sent_at_once(contexts: Contexts) -> None:
    class Renegotiating:
        """A TLS object that has an alert to send whenever it is read from."""

        def __init__(self, transport: TLSTransport) -> None:
            self._transport = transport

        def read(self, size: int) -> bytes:
            self._transport._outgoing.write(b"alert")
            raise ssl.SSLWantReadError

    ours, theirs = socket.socketpair()
    with ours, theirs:
        for side in (ours, theirs):
            side.setblocking(False)
        transport = TLSTransport(ours, "", contexts.server, ssl.MemoryBIO())
        transport._tls = Renegotiating(transport)  # type: ignore[assignment]

        assert transport.poll_input() is False
        assert theirs.recv(100) == b"alert"

        transport._encrypted, transport.pending = b"the rest of a record", b""
        for _ in range(32 * 1024 // 5):
            assert transport.poll_input() is False
        with pytest.raises(BlockingIOError):
            theirs.recv(100)

        transport.poll_input()
        with pytest.raises(trio.BrokenResourceError):  # it takes no bytes, and makes us say more and more
            await transport.flush_some()
