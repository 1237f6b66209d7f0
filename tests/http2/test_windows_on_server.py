"""Windows of the client: who may send when the connection's window opens, and what that costs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_sse._http2.preface import PREFACE

from ..support.asgi_apps import Receive, Send, accept, answer, http_only, websocket_only
from ..support.http2_wire import FrameLog, ask
from ..support.leaks import MakeServer
from ..support.serving import in_memory
from ..support.waiting import SECONDS
from .peer import Peer, probe
from .spec import Case
from .spec.case import RST_STREAM, frame, request, setting, window_update

WINDOW, CANCEL = 4, b"\0\0\0\x08"
FIRST = 65_535  # the connection's window at first


@http_only
async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with much more than the windows."""
    await answer(send, bytes(1_000_000))


class Client:
    """Has asked for some responses on one connection, whose window is used up."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._peer = Peer(Case("", "", (b"",)))

    async def send(self, *frames: bytes) -> dict[int, int]:
        """Send frames in one packet; return how many bytes of DATA each stream has received since."""
        seen = len(self._peer.seen)
        await self._stream.send_all(b"".join(frames) + probe())
        await trio.testing.wait_all_tasks_blocked()
        self._peer.receive(bytes(await self._stream.receive_some()))  # the answer to PING, at least
        received: dict[int, int] = {}
        for text in self._peer.seen[seen:]:
            if text.endswith(" bytes"):
                stream_id, size, _ = text.split()
                received[int(stream_id[:-1])] = received.get(int(stream_id[:-1]), 0) + int(size)
        return received


@asynccontextmanager
async def connected(make_server: MakeServer) -> AsyncIterator[Client]:
    server = make_server(app=app, http2_cleartext=True)
    with trio.fail_after(SECONDS):
        async with in_memory(server) as running:
            ours, theirs = trio.testing.memory_stream_pair()
            running.nursery.start_soon(server.serve_stream, theirs)
            yield Client(ours)
            await ours.aclose()


async def test_the_longest_wait_ends_first(make_server: MakeServer) -> None:
    async with connected(make_server) as client:
        assert await client.send(PREFACE, setting((WINDOW, 1 << 20)), request(1)) == {1: FIRST}
        assert await client.send(request(3)) == {}

        assert await client.send(window_update(0, 1000)) == {1: 1000}
        shares = await client.send(window_update(0, 1_000_000))
        assert shares.keys() == {1, 3}  # both, as they come
        assert sum(shares.values()) == 1_000_000


async def test_a_stream_whose_own_window_is_shut_has_no_turn(make_server: MakeServer) -> None:
    async with connected(make_server) as client:
        assert await client.send(PREFACE, setting(), request(1)) == {1: FIRST}
        assert await client.send(request(3)) == {}

        assert await client.send(window_update(0, 1000)) == {3: 1000}
        assert await client.send(window_update(1, 7)) == {}
        assert await client.send(window_update(0, 7)) == {1: 7}


async def test_a_stream_that_is_reset_in_its_turn_leaves_it_to_the_next(make_server: MakeServer) -> None:
    async with connected(make_server) as client:
        assert await client.send(PREFACE, setting((WINDOW, 1 << 20)), request(1)) == {1: FIRST}
        assert await client.send(request(3)) == {}

        assert await client.send(window_update(0, 1000), frame(RST_STREAM, 0, 1, CANCEL)) == {3: 1000}
        assert await client.send(request(5), frame(RST_STREAM, 0, 3, CANCEL), window_update(0, 9)) == {5: 9}


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_a_window_that_opens_byte_by_byte_wakes_one_of_many(make_server: MakeServer) -> None:
    async with connected(make_server) as client:
        await client.send(PREFACE, setting(), request(1))
        await client.send(*[request(stream_id) for stream_id in range(3, 203, 2)])
        steps = Steps()
        trio.lowlevel.add_instrument(steps)

        for _ in range(10):
            received = await client.send(window_update(0, 1))
            assert list(received.values()) == [1]

        trio.lowlevel.remove_instrument(steps)
        assert steps.count < 10 * 40


async def test_the_end_of_a_websocket_waits_beside_a_message_of_the_app(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    size = FIRST - 10  # with its head, a message fills the connection's window

    @websocket_only
    async def send_on(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await accept(receive, send)
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "websocket.send", "bytes": bytes(size)})

    server = make_server(app=send_on, http2_cleartext=True)
    async with in_memory(server) as serving:
        ours, theirs = trio.testing.memory_stream_pair()
        serving.nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(PREFACE + setting((WINDOW, 1 << 20)))
        log, numbers = FrameLog(), range(1, 40, 2)
        for number in numbers:  # tasks run in any order, but not in the same one twenty times
            await ours.send_all(ask(number, "/", "CONNECT", "sec-websocket-version: 13", is_whole=False))
            await trio.testing.wait_all_tasks_blocked()
            await ours.send_all(window_update(0, FIRST))  # of the message that waits, and of nothing more
            server.close_connections(id=server.connections()[0].id)
            await trio.testing.wait_all_tasks_blocked()
            await ours.send_all(window_update(0, FIRST))
            await trio.testing.wait_all_tasks_blocked()
            log.feed(bytes(await ours.receive_some()))
        assert [log.bodies[number][-7:] for number in numbers] == [b"revoked"] * len(numbers)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
