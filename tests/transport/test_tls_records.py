"""Long payloads under TLS: they are encrypted as the client takes them."""

from __future__ import annotations

import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_sse._transport.tls import TLSTransport

from ..support.certificates import Contexts
from ..support.waiting import SECONDS

PAYLOAD = bytes(range(256)) * 4096  # 1 MiB
RECORD = 16 * 1024


@asynccontextmanager
async def connections(
    contexts: Contexts, count: int = 1
) -> AsyncIterator[list[tuple[TLSTransport, trio.SSLStream[trio.SocketStream]]]]:
    """Connections that share the buffer for what is to be sent, and do their handshakes at the same time."""
    outgoing = ssl.MemoryBIO()
    pairs = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        for side in (ours, theirs):
            side.setblocking(False)
            side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        pairs.append(
            (
                TLSTransport(ours, ("peer", 1), contexts.server, outgoing),
                trio.SSLStream(stream, contexts.client, server_hostname="localhost"),
            )
        )
    async with trio.open_nursery() as nursery:
        for transport, client in pairs:
            nursery.start_soon(transport.handshake)
            nursery.start_soon(client.do_handshake)
    try:
        yield pairs
    finally:
        for transport, client in pairs:
            await transport.aclose(abort=True)
            await trio.aclose_forcefully(client)


async def receive(client: trio.SSLStream[trio.SocketStream], size: int) -> bytes:
    received = bytearray()
    with trio.fail_after(SECONDS):
        while len(received) < size:
            data = await client.receive_some(9_999)
            assert data, "the client was cut off"
            received += data
    return bytes(received)


async def flush(transport: TLSTransport) -> None:
    while transport.pending is not None:
        await transport.flush_some()


@pytest.mark.parametrize("size", [1, RECORD - 1, RECORD, RECORD + 1, 3 * RECORD, len(PAYLOAD)])
async def test_a_payload_arrives_whole_and_in_order(contexts: Contexts, size: int) -> None:
    async with connections(contexts) as [(transport, client)], trio.open_nursery() as nursery:
        transport.send_nowait(PAYLOAD[:size], 1, trio.current_time())
        nursery.start_soon(flush, transport)
        assert await receive(client, size) == PAYLOAD[:size]

        await trio.testing.wait_all_tasks_blocked(0.01)
        assert transport.send_nowait(b"next", 1, trio.current_time())
        assert await receive(client, 4) == b"next"

    assert (transport.events_sent, transport.bytes_sent) == (2, size + 4)


@pytest.mark.parametrize("size", [1, RECORD, RECORD + 1, len(PAYLOAD)])
async def test_a_payload_that_is_begun_is_sent_by_a_flush(contexts: Contexts, size: int) -> None:
    async with connections(contexts) as [(transport, client)], trio.open_nursery() as nursery:
        assert not transport.begin_send(PAYLOAD[:size], 1, 1.0)
        assert transport.pending is not None
        assert (transport.written_at == 1.0) == (size > RECORD), "a short one is only encrypted"
        transport.flush_nowait(2.0)
        nursery.start_soon(flush, transport)
        assert await receive(client, size) == PAYLOAD[:size]

        await trio.testing.wait_all_tasks_blocked(0.01)
        assert transport.send_nowait(b"next", 1, trio.current_time())
        assert await receive(client, 4) == b"next"

    assert (transport.events_sent, transport.bytes_sent) == (2, size + 4)


async def test_what_is_begun_on_several_connections_reaches_each(contexts: Contexts) -> None:
    async with connections(contexts, 5) as pairs:
        for index, (transport, _) in enumerate(pairs):
            transport.begin_send(b"%d" % index * 9, 1, 1.0)
        for transport, _ in pairs:
            transport.flush_nowait(2.0)
            assert (transport.pending, transport.written_at) == (None, 2.0)
        for index, (_, client) in enumerate(pairs):
            assert await receive(client, 9) == b"%d" % index * 9


async def test_what_is_begun_for_a_client_that_has_left_stays_pending(contexts: Contexts) -> None:
    async with connections(contexts) as [(transport, client)]:
        await trio.aclose_forcefully(client)
        assert not transport.begin_send(b"begun", 1, 1.0)
        transport.flush_nowait(2.0)
        transport.flush_nowait(3.0)
        assert transport.pending is not None
        with pytest.raises(trio.BrokenResourceError):
            await transport.flush_some()


async def test_a_handle_that_has_handed_over_begins_nothing(contexts: Contexts) -> None:
    async with connections(contexts) as [(transport, client)]:
        new = transport.hand_over()
        assert not transport.begin_send(b"smuggled", 1, 1.0)
        transport.flush_nowait(2.0)
        assert transport.pending == b"smuggled"
        assert new.send_nowait(b"next", 1, 1.0)
        assert await receive(client, 4) == b"next"
        await new.aclose(abort=True)


async def test_clients_that_lag_share_the_payload(contexts: Contexts) -> None:
    count = 20
    async with connections(contexts, count) as pairs:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for transport, _client in pairs:
                assert not transport.send_nowait(PAYLOAD, 1, trio.current_time())
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert held < count * 2 * RECORD
        for transport, _client in pairs:
            assert isinstance(transport.pending, memoryview)
            assert transport.pending.obj is PAYLOAD


async def test_connections_that_share_a_buffer_do_not_mix(contexts: Contexts) -> None:
    count = 10
    received: dict[int, bytes] = {}

    async def read(index: int, client: trio.SSLStream[trio.SocketStream]) -> None:
        received[index] = await receive(client, 100_000)

    async with connections(contexts, count) as pairs, trio.open_nursery() as nursery:
        for index, (transport, client) in enumerate(pairs):
            transport.send_nowait(b"%d" % index * 100_000, 1, trio.current_time())
            nursery.start_soon(flush, transport)
            nursery.start_soon(read, index, client)

    assert received == {index: b"%d" % index * 100_000 for index in range(count)}


async def test_a_handed_over_connection_goes_on_in_the_middle_of_a_record(contexts: Contexts) -> None:
    async with connections(contexts) as [(transport, client)]:
        transport.send_nowait(PAYLOAD, 1, trio.current_time())
        new = transport.hand_over()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flush, new)
                assert await receive(client, len(PAYLOAD)) == PAYLOAD
            assert transport.pending is None
            assert not transport.send_nowait(PAYLOAD, 1, trio.current_time())
            with pytest.raises(trio.ClosedResourceError):
                await transport.flush_some()
        finally:
            await new.aclose(abort=True)


async def test_a_client_that_leaves_breaks_the_transport(contexts: Contexts) -> None:
    async with connections(contexts) as [(transport, client)]:
        transport.send_nowait(PAYLOAD, 1, trio.current_time())
        await trio.aclose_forcefully(client)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(SECONDS):
            await flush(transport)


async def test_a_handshake_that_an_application_breaks_leaves_nothing_to_others(contexts: Contexts) -> None:
    class Failing:
        def do_handshake(self) -> None:
            outgoing.write(b"half of a flight")
            raise RuntimeError("a callback failed")

    outgoing = ssl.MemoryBIO()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = TLSTransport(ours, ("peer", 1), contexts.server, outgoing)
        transport._tls = Failing()  # type: ignore[assignment]
        with pytest.raises(RuntimeError):
            await transport.handshake()
    assert outgoing.pending == 0
