"""A drain ends streams whose clients resume them, and lets the others finish in its time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason

from ..support.leaks import MakeServer
from ..support.serving import in_memory

pytestmark = pytest.mark.usefixtures("protocol")


async def test_a_stream_that_answers_a_post_may_finish_while_the_server_drains(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(drain_timeout=10)
    ends: list[tuple[str, EndReason | None]] = []
    server.on_disconnect(lambda c: ends.append((c.request.target, c.end_reason)))

    @server.route("/{seconds:float}", methods=["GET", "POST"])
    async def answer(connection: Connection, seconds: float) -> None:
        await connection.send("begun")
        await trio.sleep(seconds)
        await connection.send("ended")

    async with in_memory(server) as serving:
        post, endless, get = (serving.connect() for _ in range(3))
        await post.send(b"POST /5.0 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        await endless.send(b"POST /50.0 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        await get.send(b"GET /5.5 HTTP/1.1\r\nHost: test\r\n\r\n")
        await wait_all_tasks_blocked()
        began_at = trio.current_time()
        await server.drain()
        assert 9 < trio.current_time() - began_at < 11
        await post.head()
        assert [event.data for event in await post.rest()] == ["begun", "ended"]
        assert post.is_ended
    assert ends == [
        ("/5.5", EndReason.SERVER_SHUTDOWN),
        ("/5.0", EndReason.FINISHED),
        ("/50.0", EndReason.SERVER_SHUTDOWN),
    ]
