"""When a stream of HTTP/2 is reset: not before its client has had a moment to read what was sent last."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import pytest
import trio
import trio.testing

from trio_sse import Connection, EndReason, Server
from trio_sse._http2.error_code import ErrorCode
from trio_sse._http2.frames import FrameReader, FrameType
from trio_sse._http2.preface import PREFACE

from ..http2.spec.case import GET, request, setting
from ..support.leaks import MakeServer
from ..support.serving import on_sockets, running
from ..support.waiting import until

SECONDS = 0.05


async def frames(stream: trio.abc.ReceiveStream) -> AsyncGenerator[tuple[float, str, int], None]:
    """Yield the frames of streams that arrive, but not their heads, and GOAWAY, with their times."""
    reader = FrameReader()
    while data := await stream.receive_some():
        reader.feed(bytes(data))
        while (frame := reader.take()) is not None:
            match frame.type:
                case FrameType.DATA:
                    what = "DATA"
                case FrameType.RST_STREAM:
                    what = ErrorCode(int.from_bytes(frame.payload)).name
                case FrameType.GOAWAY:
                    what = "GOAWAY"
                case _:
                    continue
            yield trio.current_time(), what, frame.stream_id


def add_routes(server: Server) -> None:
    @server.route("/{seconds:float}")
    async def cut(connection: Connection, seconds: float) -> None:
        await connection.send("last")
        await trio.sleep(seconds)
        connection.close(reconnect=True)

    @server.route("/open")
    async def stay(connection: Connection) -> None:
        await connection.subscribe("nothing")


def ask(stream_id: int, path: str) -> bytes:
    return request(stream_id, GET + path.removeprefix("/"))


async def test_a_cut_follows_the_last_data_after_a_moment(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(http2_cleartext=True)
    add_routes(server)
    client, served = trio.testing.memory_stream_pair()
    seen = {}
    async with running(server.hub) as nursery:
        nursery.start_soon(server.serve_stream, served)
        begun = trio.current_time()
        await client.send_all(PREFACE + setting() + ask(1, "/0.0") + ask(3, "/0.01") + ask(5, "/0.2"))
        async with aclosing(frames(client)) as received:
            async for at, what, stream_id in received:
                seen[what, stream_id] = at - begun
                if len(seen) == 6:
                    break
    assert seen == {
        **{("DATA", number): pytest.approx(0) for number in (1, 3, 5)},
        ("INTERNAL_ERROR", 1): pytest.approx(SECONDS),
        ("INTERNAL_ERROR", 3): pytest.approx(2 * SECONDS),  # those of a moment go together
        ("INTERNAL_ERROR", 5): pytest.approx(0.2),  # nothing was sent shortly before
    }


async def test_a_drain_sends_the_time_to_reconnect_before_the_cut(
    make_server: MakeServer, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(http2_cleartext=True)
    add_routes(server)
    client, served = trio.testing.memory_stream_pair()
    seen: list[tuple[str, float]] = []
    async with running(server.hub) as nursery:
        nursery.start_soon(server.serve_stream, served)
        await client.send_all(PREFACE + setting() + ask(1, "/open"))
        async with aclosing(frames(client)) as received:
            async for at, what, _ in received:
                if not seen:
                    begun = at
                    nursery.start_soon(server.drain)
                seen.append((what, at - begun))
    assert [what for what, _ in seen if what != "GOAWAY"] == ["DATA", "DATA", "INTERNAL_ERROR"]
    hint, cut = (at for what, at in seen[1:] if what != "GOAWAY")
    assert cut - hint == pytest.approx(SECONDS)


async def test_a_server_that_is_cancelled_sends_the_resets_that_wait(make_server: MakeServer) -> None:
    server = make_server(http2_cleartext=True)
    add_routes(server)
    async with AsyncExitStack() as stack:
        async with on_sockets(server) as serving:
            client = await stack.enter_async_context(await trio.open_tcp_stream(*serving.address))
            await client.send_all(PREFACE + setting() + ask(1, "/0.0"))
            received = await stack.enter_async_context(aclosing(frames(client)))
            assert (await anext(received))[1:] == ("DATA", 1)
            await until(lambda: EndReason.RECONNECT in server.statistics().ended)
            serving.nursery.cancel_scope.cancel()
        assert (await anext(received))[1:] == ("INTERNAL_ERROR", 1)
