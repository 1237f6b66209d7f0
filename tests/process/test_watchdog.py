"""A warning names the task that blocks the event loop."""

from __future__ import annotations

import logging
import re
import threading
import time

import pytest
import trio

from trio_sse import Connection, Request, Response
from trio_sse._process import watchdog

from ..support.leaks import MakeServer
from ..support.serving import in_memory
from ..support.waiting import SECONDS

LIMIT = 0.02


class Clock:
    """The watchdog's clock in a test: it stands still, so that no busy machine blocks the event loop."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def block(self) -> None:
        """Block the event loop for longer than the limit."""
        self.seconds += 2.5 * LIMIT


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watchdog, "perf_counter", made)
    return made


def warnings(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """Return the warnings about one task; on a busy machine there may be others."""
    messages = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in messages if f"{name} blocked the event loop" in message]


async def test_a_handler_that_blocks_is_named(
    make_server: MakeServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(slow_step=LIMIT)

    @server.route("/blocking")
    async def blocking_handler(connection: Connection) -> None:
        clock.block()
        await connection.send("at last")

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/blocking")
        assert [event.data for event in await client.rest()] == ["at last"]
    (warning,) = warnings(caplog, "blocking_handler")
    seconds = re.search(r"blocking_handler blocked the event loop for (\d\.\d+) s", warning)
    assert seconds
    assert float(seconds[1]) >= 2 * LIMIT


async def test_an_endpoint_that_blocks_is_named(
    make_server: MakeServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(slow_step=LIMIT)

    @server.endpoint("/blocking")
    async def blocking_endpoint(request: Request) -> Response:
        clock.block()
        return Response("at last")

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/blocking")
    assert len(warnings(caplog, "blocking_endpoint")) == 1


async def test_a_task_beside_the_server_is_named(
    make_server: MakeServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(slow_step=LIMIT)

    async def number_crunching() -> None:
        clock.block()

    async with in_memory(server) as serving:
        client = serving.connect()
        await client.get("/nowhere")  # the server is at work, and with it its watchdog
        async with trio.open_nursery() as nursery:
            nursery.start_soon(number_crunching)
        await trio.aclose_forcefully(client.stream)
    assert len(warnings(caplog, "number_crunching")) == 1


async def test_nothing_is_watched_when_nothing_is_served(
    make_server: MakeServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(slow_step=LIMIT)
    async with in_memory(server) as serving:
        client = serving.connect()
        await client.get("/nowhere")
        await trio.aclose_forcefully(client.stream)
    await trio.lowlevel.checkpoint()
    clock.block()
    await trio.lowlevel.checkpoint()
    assert warnings(caplog, "test_nothing_is_watched_when_nothing_is_served") == []


async def test_tasks_that_wait_are_not_named(
    make_server: MakeServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(slow_step=LIMIT)
    waits, proceed = trio.Event(), trio.Event()

    @server.route("/waiting")
    async def waiting(connection: Connection) -> None:
        waits.set()
        await proceed.wait()
        await connection.send("at last")

    async with in_memory(server) as serving, serving.connect() as client:
        await client.send(b"GET /waiting HTTP/1.1\r\nHost: test\r\n\r\n")
        await waits.wait()
        clock.block()  # meanwhile, in this task
        proceed.set()
        await client.head()
        await client.rest()
    assert warnings(caplog, "waiting") == []


async def test_time_before_serving_does_not_count(
    make_server: MakeServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(slow_step=LIMIT)
    clock.block()
    async with in_memory(server):
        pass
    assert not any("blocked the event loop" in record.message for record in caplog.records)


async def test_the_warning_says_that_an_overloaded_machine_may_be_to_blame(
    make_server: MakeServer, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server(slow_step=LIMIT)
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 1.0, 1.0))

    @server.route("/blocking")
    async def blocking_handler(connection: Connection) -> None:
        clock.block()

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/blocking")
        await client.rest()
    (warning,) = warnings(caplog, "blocking_handler")
    assert warning.endswith("is overloaded (load average 1000)")
    assert "use trio.to_thread.run_sync, unless" in warning


async def test_the_line_that_blocks_is_named(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server(slow_step=LIMIT)
    watching = server._calls.watchdog

    @server.route("/blocking")
    async def blocking_handler(connection: Connection) -> None:
        deadline = time.monotonic() + SECONDS
        while watching._seen[0] != watching._began_at and time.monotonic() < deadline:
            threading.Event().wait(0.001)
        await connection.send("at last")

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/blocking")
        await client.rest()
    assert any(f" s ({__file__}, line " in warning for warning in warnings(caplog, "blocking_handler"))
