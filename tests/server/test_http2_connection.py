"""The life of an HTTP/2 connection: how long it may be idle, how it drains, and when it is given up."""

from __future__ import annotations

import math
import struct

import pytest
import trio
import trio.testing

from trio_sse import Connection, EndReason, Response, Server
from trio_sse._http2.frames import (
    Flag,
    Frame,
    FrameReader,
    FrameType,
    encode_block,
    encode_ping,
    encode_settings,
)
from trio_sse._http2.header_block import encode_fields
from trio_sse._http2.preface import PREFACE

from ..support.leaks import MakeServer
from ..support.serving import in_memory

LAST = 2**31 - 1


class RawClient:
    """Sends requests, answers PINGs, and keeps the frames that it receives."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.received: list[Frame] = []
        self._stream = stream
        self._reader = FrameReader()

    async def begin(self) -> None:
        await self._stream.send_all(PREFACE + encode_settings({}))

    async def ask(self, stream_id: int, path: bytes) -> None:
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"test"), (b":path", path)]
        await self._stream.send_all(encode_block(stream_id, encode_fields(fields), ends_stream=True))

    async def receive(self, *, answers: bool = True) -> bool:
        """Wait for frames; return whether the connection is still open."""
        data = await self._stream.receive_some()
        self._reader.feed(bytes(data))
        while (frame := self._reader.take()) is not None:
            self.received.append(frame)
            if answers and frame.type == FrameType.PING and not frame.flags & Flag.ACK:
                await self.answer(frame)
        return bool(data)

    async def answer(self, ping: Frame) -> None:
        await self._stream.send_all(encode_ping(ping.payload, is_ack=True))

    async def receive_all(self) -> None:
        while await self.receive():
            pass

    def of_type(self, type: int) -> list[Frame]:
        return [frame for frame in self.received if frame.type == type]

    @property
    def goaways(self) -> list[tuple[int, int]]:
        """The last stream and the code of each GOAWAY frame."""
        return [struct.unpack(">II", frame.payload[:8]) for frame in self.of_type(FrameType.GOAWAY)]


@pytest.fixture
def autojump(clock: trio.testing.MockClock) -> trio.testing.MockClock:
    clock.autojump_threshold = 0.01
    return clock


@pytest.mark.parametrize("has_asked", [False, True])
async def test_an_idle_connection_is_kept_for_as_long_as_one_of_http_1_1(
    make_server: MakeServer, autojump: trio.testing.MockClock, has_asked: bool
) -> None:
    server = make_server(http2_cleartext=True, keep_alive=75.0)
    async with in_memory(server) as running:
        client = RawClient(running.connect().stream)
        await client.begin()
        if has_asked:
            await client.ask(1, b"/health")
        began = trio.current_time()
        await client.receive_all()
        assert trio.current_time() - began == pytest.approx(75.0, abs=0.5)
        assert client.goaways == [(1 if has_asked else 0, 0)]


async def test_a_client_must_begin_soon(make_server: MakeServer, autojump: trio.testing.MockClock) -> None:
    async with in_memory(make_server(http2_cleartext=True)) as running:
        stream = running.connect().stream
        await stream.send_all(PREFACE + encode_settings({})[:5])
        began = trio.current_time()
        while await stream.receive_some():
            pass
        assert trio.current_time() - began == pytest.approx(10.0, abs=0.5)


async def test_a_drain_answers_what_is_on_its_way(make_server: MakeServer) -> None:
    server = make_server(http2_cleartext=True)
    is_called, goes_on = trio.Event(), trio.Event()

    @server.endpoint("/slow")
    async def slow(request: object) -> Response:
        is_called.set()
        await goes_on.wait()
        return Response("done")

    async with in_memory(server) as running, trio.open_nursery() as nursery:
        client = RawClient(running.connect().stream)
        await client.begin()
        await client.ask(1, b"/slow")
        await is_called.wait()
        nursery.start_soon(server.drain)
        while not client.of_type(FrameType.PING):
            await client.receive(answers=False)
        assert client.goaways == [(LAST, 0)]
        await client.ask(3, b"/health")  # before the GOAWAY has arrived, as it were
        await client.answer(client.of_type(FrameType.PING)[0])
        while len(client.goaways) < 2:
            await client.receive()
        await client.ask(5, b"/health")  # a client that breaks the rules is not answered
        goes_on.set()
        await client.receive_all()
        assert client.goaways == [(LAST, 0), (3, 0)]
        assert {frame.stream_id for frame in client.of_type(FrameType.HEADERS)} == {1, 3}


async def test_a_connection_whose_client_reads_nothing_is_given_up(
    make_server: MakeServer, autojump: trio.testing.MockClock
) -> None:
    server: Server = make_server(http2_cleartext=True, write_timeout=30.0, keepalive=math.inf)
    has_ended, reasons = trio.Event(), []

    @server.on_disconnect
    def note(connection: Connection) -> None:
        reasons.append(connection.end_reason)
        has_ended.set()

    @server.route("/large")
    async def large(connection: Connection) -> None:
        await connection.send("x" * 50_000)
        await trio.sleep_forever()

    async with in_memory(server) as running:
        stream = running.connect_lockstep().stream
        async with trio.open_nursery() as nursery:
            nursery.start_soon(RawClient(stream).begin)
            assert await stream.receive_some()
            nursery.start_soon(RawClient(stream).ask, 1, b"/large")
        began = trio.current_time()
        await has_ended.wait()
        assert trio.current_time() - began == pytest.approx(30.0, abs=1.0)
        assert reasons == [EndReason.WRITE_TIMEOUT]
