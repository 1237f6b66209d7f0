"""Streams that answer a request whose body nobody reads."""

from __future__ import annotations

import pytest
import trio
from quart_trio import QuartTrio

from trio_sse import Connection, EndReason, Server
from trio_sse.quart import QuartSSE

from ..support.hostile import connected
from ..support.raw_requests import request
from ..support.waiting import SECONDS

SIZE = 300_000


def make_server() -> tuple[Server, list[EndReason | None]]:
    """Return a server of an app with a stream that never reads its body, and how its streams have ended."""
    app = QuartTrio(__name__)
    sse = QuartSSE(app)
    reasons: list[EndReason | None] = []

    @sse.on_disconnect
    def note(connection: Connection) -> None:
        reasons.append(connection.end_reason)

    @sse.route("/slow", methods=["POST"])
    async def slow(connection: Connection) -> None:
        for number in range(5):
            await connection.send(f"{number}")
            await trio.sleep(0.02)

    return Server(app), reasons


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_is_not_read_does_not_cut_the_stream(is_chunked: bool) -> None:
    server, reasons = make_server()
    if is_chunked:
        body = (b"2710\r\n" + b"x" * 10_000 + b"\r\n") * (SIZE // 10_000) + b"0\r\n\r\n"
        head = request("POST", "/slow", "Transfer-Encoding: chunked")
    else:
        head, body = request("POST", "/slow", f"Content-Length: {SIZE}"), b"x" * SIZE

    with trio.fail_after(SECONDS):
        async with connected(server, "sockets") as client, trio.open_nursery() as nursery:
            await client.send(head)
            nursery.start_soon(client.send, body)
            assert (await client.head()).status == 200
            events = await client.rest()
            assert await client.closed() == b""

    assert [event.data for event in events] == list("01234")
    assert client.is_ended
    assert reasons == [EndReason.FINISHED]


@pytest.mark.parametrize("over", ["memory", "sockets"])
async def test_more_than_the_body_cuts_the_stream(over: str) -> None:
    server, reasons = make_server()

    with trio.fail_after(SECONDS):
        async with connected(server, over) as client:
            await client.send(request("POST", "/slow", "Content-Length: 10") + b"x" * 10)
            assert (await client.head()).status == 200
            await client.send(b"x" * 64 * 1024)
            await client.rest()

    assert client.is_cut
    assert reasons == [EndReason.PROTOCOL_ERROR]
