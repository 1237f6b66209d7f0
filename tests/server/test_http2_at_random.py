"""Whatever happens to the streams of an HTTP/2 connection, and whenever: others go on, and nothing stays."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from trio_sse._http2.frames import encode_window_update

from ..support.checkpoints import Interruption, interrupt_at_each_checkpoint
from ..support.http2_wire import RawPeer, ask, data, reset
from ..support.leaks import MakeServer, living_tasks
from ..support.serving import in_memory
from ..support.shares import seeds
from .test_http2_streams import LIVE, PHASES, Site


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(5))
async def test_frames_in_any_order_harm_no_other_stream(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    chance = random.Random(seed)
    site = Site(make_server, http2_max_streams=12, write_timeout=5, body_timeout=5, request_timeout=5)
    requests = [*PHASES.values(), *[_get(path) for path in ("/three", "/large", "/nowhere", "/live")]]
    published = 0
    async with site.connected() as peer:
        last, numbers = LIVE, list[int]()
        for _ in range(150):
            frames: list[bytes] = []
            for _ in range(chance.choice((1, 1, 2, 5))):
                number = chance.choice(numbers) if numbers else 0
                match chance.choice(("ask", "ask", "ask", "reset", "window", "connection")):
                    case "ask":
                        last += 2
                        frames.append(chance.choice(requests)(last))
                        numbers = [*numbers[-9:], last]
                    case "reset" if number:
                        frames.append(reset(number))
                    case "window" if number:
                        frames.append(encode_window_update(number, chance.choice((1, 100, 70_000))))
                    case "connection":
                        frames.append(encode_window_update(0, chance.choice((1, 100, 70_000))))
            await peer.send(*frames)
            if chance.random() < 0.3:
                await site.server.hub.publish("live", f"event {published}.")
                published += 1
            if chance.random() < 0.5:
                await peer.receive()
            if chance.random() < 0.1:
                await peer.opens_window(LIVE, 1000)
                await trio.sleep(chance.choice((0.1, 3, 10)))
        await peer.opens_window(LIVE, 100_000)
        await trio.sleep(10)
        await peer.receive()
        assert not peer.is_closed
        for number in range(published):
            assert f"data: event {number}.\n".encode() in peer.log.bodies[LIVE]
        await site.check_others(peer)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def _get(path: str) -> Callable[[int], bytes]:
    return lambda number: ask(number, path)


@pytest.mark.integration  # all of them take 2 s
@pytest.mark.parametrize("how", ["leave", "drain", "cancel"])
async def test_a_connection_may_end_at_each_checkpoint(
    make_server: MakeServer, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The server's tasks are interrupted at every one of their checkpoints."""

    async def scenario(interruption: Interruption) -> None:
        before = living_tasks()
        site = Site(make_server, drain_timeout=2, write_timeout=3)
        async with in_memory(site.server) as serving:
            own = living_tasks()
            ours, theirs = memory_stream_pair()

            def interrupt() -> None:
                if how == "cancel":
                    serving.nursery.cancel_scope.cancel()
                elif how == "drain":
                    serving.nursery.start_soon(site.server.drain)
                else:
                    ours.send_stream.close()
                    ours.receive_stream.close()

            interruption.begin(interrupt, lambda task: task not in own)
            serving.nursery.start_soon(site.server.serve_stream, theirs)
            with trio.move_on_after(20):
                await _use(RawPeer(ours), site)
            interruption.end()
            serving.nursery.cancel_scope.cancel()
        assert living_tasks() == before
        assert site.running == 0
        assert site.server.statistics().open_streams == 0

    assert await interrupt_at_each_checkpoint(scenario) > 20
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def _use(peer: RawPeer, site: Site) -> None:
    """Have streams of several kinds on one connection."""
    try:
        async with peer:
            await peer.send(ask(1, "/live"), ask(3, "/three"), PHASES["while a route waits for the body"](5))
            await site.server.hub.publish("live", "event")
            await peer.send(PHASES["while an app floods"](7), PHASES["of a WebSocket"](9))
            await peer.receive()
            await peer.send(data(5, bytes(500), is_end=True), reset(9))
            await peer.receive()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
