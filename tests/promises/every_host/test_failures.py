"""What the code and the clients on every host do wrong, and whom it concerns."""

from __future__ import annotations

import logging
import math
import re
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from trio_sse import EndReason

from ...support import hosts
from ...support.client import Client
from ...support.hosts import FAST, PATIENT, Run, until_subscribed
from ...support.leaks import living_tasks, open_descriptors
from ...support.raised import Panic
from ...support.waiting import until
from .observing import NEVER

pytestmark = pytest.mark.integration


async def test_a_handler_that_fails_before_the_stream_is_a_500(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async with run() as host, host.opened("/fails_before") as stream:
        assert stream.response.status == 500
        assert b"secret" not in await stream.whole()
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]

        def errors() -> list[str]:
            return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]

        if not host.name.startswith("litestar"):  # which logs only if configured to
            await until(lambda: errors() != [])
            assert errors() == ["secret"]


@pytest.mark.parametrize("path", ["/fails_after", "/fails_in_nursery"])
async def test_a_handler_that_fails_in_the_stream_cuts_it(
    run: Run, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    async with run() as host, host.opened("/live") as other, host.opened(path) as stream:
        assert [event.data for event in await stream.rest()] == ["one"]
        assert host.is_cut_or_ended(stream)
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]
        assert len([record for record in caplog.records if record.exc_info]) == 1
        await until_subscribed(host)
        await host.hub.publish("live", "the others live on")
        assert (await other.event()).data == "the others live on"


@pytest.mark.parametrize("path", ["/panics_before", "/panics_after"])
async def test_what_is_no_exception_ends_its_own_stream_only(run: Run, path: str) -> None:
    async with run() as host, host.opened("/live") as other:
        await until_subscribed(host)
        async with host.opened(path) as stream:
            if path == "/panics_before":
                assert stream.response.status == 500
                await stream.whole()
            else:
                assert [event.data for event in await stream.rest()] == ["one"]
                assert host.is_cut_or_ended(stream)
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]
        await host.hub.publish("live", "the others live on")
        assert (await other.event()).data == "the others live on"


class FailingHandler(logging.Handler):
    """A handler of the application's, which fails in a way that the standard library does not contain."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def handle(self, record: logging.LogRecord) -> bool:
        self.calls += 1
        raise Panic("the log is broken")


async def test_a_log_that_fails_ends_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing, logger = FailingHandler(), logging.getLogger("trio_sse")
    monkeypatch.setattr(logger, "handlers", [failing])
    monkeypatch.setattr(logger, "propagate", False)
    logger.setLevel(logging.DEBUG)
    try:
        async with run() as host, host.opened("/live") as other:
            await until_subscribed(host)
            for path in ("/fails_after", "/panics_after", "/three"):
                async with host.opened(path) as stream:
                    assert (await stream.event()).data
                    await stream.rest()
            async with host.opened("/fails_before") as stream:
                assert stream.response.status == 500
            await host.life.wait_ends(4)
            await host.hub.publish("live", "the others live on")
            assert (await other.event()).data == "the others live on"
    finally:
        logger.setLevel(logging.NOTSET)
    assert failing.calls > 4


async def test_a_handler_may_refuse(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async with run() as host, host.opened("/refuses") as stream:
        assert (stream.response.status, stream.response.get("x-why")) == (403, "because")
        assert await stream.whole() == b"not you\n"
        assert await host.life.wait_ends(1) == [EndReason.REFUSED]
        assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_handler_that_has_closed_its_stream_may_refuse(run: Run, accept: str) -> None:
    async with run() as host:
        for path in ("/closes_and_refuses", "/closes_and_answers"):
            lines = [f"Accept: {accept}", *(() if host.speaks_http2 else ["Connection: close"])]
            async with host.opened(path, *lines) as stream:
                assert stream.response.status == 403
                assert await stream.whole() == b"not you\n"
                if isinstance(stream, Client):
                    assert await stream.closed() == b""  # there is one response
        ends = await host.life.wait_ends(2)
        assert ends[0] is EndReason.REFUSED


@pytest.mark.parametrize("query", ["", "?reconnect=1"])
async def test_a_handler_that_closes_its_stream_unsent_and_fails_is_a_500(
    run: Run, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    async with run() as host, host.opened("/closes_and_fails" + query) as stream:
        assert stream.response.status == 500
        assert b"secret" not in await stream.whole()
        assert await host.life.wait_ends(1) == [EndReason.HANDLER_ERROR]
        if not host.name.startswith("litestar"):  # which logs only if configured to
            await until(lambda: [str(r.exc_info[1]) for r in caplog.records if r.exc_info] == ["secret"])


async def test_a_scope_that_a_handler_leaves_open_ends_its_own_stream_only(run: Run) -> None:
    async with run() as host, host.opened("/live") as other:
        await until_subscribed(host)
        async with host.opened("/leaves_a_scope_open") as stream:
            assert stream.response.status == 500
        await host.life.wait_ends(1)
        await host.hub.publish("live", "the others live on")
        assert (await other.event()).data == "the others live on"


@pytest.mark.parametrize("path", ["/refuses", "/fails_before", "/closes_and_answers", "/three"])
async def test_a_response_says_if_what_was_sent_behind_its_request_is_not_answered(
    run_http1: Run, path: str
) -> None:
    async with run_http1() as host, await host.connect() as client:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        await client.send(request + request)
        response = await client.head()
        await client.whole()
        if "close" not in (response.get("connection") or ""):
            assert (await client.head()).status == response.status
            await client.whole()
        else:
            assert await client.closed() == b""


async def test_an_upgrade_field_comes_with_its_connection_option(run: Run) -> None:
    async with run() as host, host.opened("/upgrades") as stream:
        assert stream.response.status == 426
        fields = [(name.lower(), value.lower()) for name, value in stream.response.fields]
        options = [value for name, value in fields if name == "connection"]
        if not host.speaks_http2:
            assert ("upgrade", "h2c") in fields
            assert "upgrade" in ", ".join(options).split(", ")
        else:  # HTTP/2 has neither
            assert not options
            assert "upgrade" not in dict(fields)


async def test_an_invalid_topic_is_a_400(run: Run) -> None:
    async with run() as host, host.opened("/no_topic") as stream:
        assert stream.response.status == 400
        assert b"256 characters" in await stream.whole()


async def test_more_streams_than_there_may_be_are_refused(run: Run) -> None:
    async with run(max_connections=2) as host, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(host.opened("/quiet"))
        async with host.opened("/quiet") as third:
            assert third.response.status == 503
            assert 1 <= int(third.response.get("retry-after")) <= 10
        async with host.opened("/quiet", "Accept: text/event-stream", "Cache-Control: no-cache") as browser:
            # An EventSource gives up after a 503. After a stream that ends, it reconnects.
            assert browser.response.status == 200
            assert browser.response.get("content-type") == "text/event-stream"
            assert re.fullmatch(rb"retry: [0-9]{4,5}\n\n", await browser.whole())
        assert host.statistics().open_streams == 2


async def test_a_handler_is_held_up_by_a_reader_that_does_not_read(run: Run) -> None:
    async with run() as host, host.opened("/flood", held=True) as stream:
        if not host.promises("a handler waits for a client that does not read"):
            return
        sent = -1
        while sent < host.statistics().bytes_sent:
            sent = host.statistics().bytes_sent
            assert sent < 1_000_000, "nobody holds it up"
            await trio.sleep(0.1)
        assert not host.life.ends
        await hosts.take_all(stream)
        received = 0
        while received < 2_000_000:
            received += len(await stream.read())
            stream.body = b""


async def test_a_reader_that_never_reads_is_cut_and_others_go_on(run: Run) -> None:
    async with run(write_timeout=1) as host, host.opened("/live") as other:
        await until_subscribed(host)
        async with await host.connect(receive_buffer=4096) as stuck:
            if isinstance(stuck, Client):
                await stuck.send(b"GET /flood HTTP/1.1\r\nHost: test\r\n\r\n")
            else:
                await stuck.request("GET", "/flood")
                stuck.reading.cancel()
            began_at = trio.current_time()
            await host.life.wait_opened(2)
            await host.hub.publish("live", "meanwhile")
            assert (await other.event()).data == "meanwhile"
            (reason,) = await host.life.wait_ends(1)
            assert reason in (EndReason.WRITE_TIMEOUT, EndReason.CLIENT_DISCONNECTED)
            assert trio.current_time() - began_at < 20  # the kernel looks at intervals of its own choice
        await host.hub.publish("live", "afterwards")
        assert (await other.event()).data == "afterwards"


async def test_readers_that_leave_without_having_read_leave_nothing(run: Run, clock: MockClock) -> None:
    async with run(**PATIENT, keepalive=NEVER) as host:
        async with host.opened("/live") as stream:
            await until_subscribed(host)
            await stream.leave()
        await host.life.wait_ends(1)
        tasks, descriptors = len(living_tasks()), len(open_descriptors())
        for count in range(2, 8):
            async with host.opened("/flood", held=True) as stream:
                await trio.sleep(0.1)  # by now it waits for the client
                await hosts.leave_by_reset(stream)
            await host.life.wait_ends(count)
        clock.rate = FAST  # a `send` of hypercorn may go on for a while
        await until(lambda: len(living_tasks()) <= tasks, seconds=math.inf)
        await until(lambda: len(open_descriptors()) <= descriptors, seconds=math.inf)
