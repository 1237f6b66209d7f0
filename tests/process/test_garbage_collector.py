"""A stream leaves no garbage behind, so the garbage collector may run rarely."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import trio

from trio_sse import Connection, EndReason, Server

from ..support.waiting import SECONDS

STREAMS = 50


@pytest.fixture
def collector() -> Iterator[None]:
    """Switch the collector off for the test."""
    gc.disable()
    yield
    gc.enable()


def close(server: Server) -> None:
    """End each stream from the server's side."""
    for stream in list(server._manager.streams):
        stream.end(EndReason.FINISHED)


@pytest.mark.parametrize("end", [close, lambda server: None], ids=["the server ends", "the client goes"])
@pytest.mark.usefixtures("collector", "no_leak")
async def test_a_stream_leaves_no_reference_cycle_behind(end: Callable[[Server], None]) -> None:
    server = Server()

    @server.route("/updates")
    async def updates(connection: Connection) -> None:
        await connection.subscribe("live")

    async def visit(count: int, address: tuple[str, int]) -> None:
        streams = [await trio.open_tcp_stream(*address) for _ in range(count)]
        for stream in streams:
            await stream.send_all(b"GET /updates HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some()
        end(server)
        for stream in streams:
            await stream.aclose()
        while server._manager.streams:  # noqa: ASYNC110  # nothing tells
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(server.serve, "127.0.0.1", 0)
        await visit(1, address)
        while gc.collect():  # what earlier tests left, a browser's say, may need more than one collection
            pass
        await visit(STREAMS, address)
        assert gc.collect() < STREAMS
        nursery.cancel_scope.cancel()


@pytest.mark.integration
def test_tuning_changes_the_whole_process() -> None:
    program = (
        "import gc, trio_sse; trio_sse.tune_garbage_collector(); "
        "print(gc.get_freeze_count() > 1000, gc.get_threshold())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert finished.stdout == "True (10000, 1, 100)\n"
