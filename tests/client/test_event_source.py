"""The client of `trio_sse.client`, against servers that answer as a test says."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from trio_sse._client import reconnecting
from trio_sse._client.idle_limit import IdleLimit
from trio_sse._client.reconnecting import FLOOR_SECONDS, ReconnectPolicy
from trio_sse.client import EventSource, SourceStatus, StreamRefused, StreamUnavailable

from ..support.leaks import LeakCheck
from ..support.waiting import SECONDS, until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
WAIT = object()  # in an answer: keep the connection open, and say nothing more


def refusal(status: int, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", "Content-Length: 0", "Connection: close", *fields, "", ""]
    return "\r\n".join(lines).encode()


class Answers:
    """A server that gives each connection the next of these answers, and the last one again and again."""

    def __init__(self, answers: Sequence[Sequence[Any]], url: str) -> None:
        self.url = url
        self.requests: list[str] = []
        self._answers = answers

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            request = b""
            while not request.endswith((b"\r\n\r\n", b"\r\n\r\nquestion")):
                if not (data := await stream.receive_some()):
                    return
                request += data
                if b"Content-Length: 8" in request and request.endswith(b"\r\n\r\n"):
                    request += await stream.receive_some()
            self.requests.append(request.decode())
            for part in self._answers[min(len(self.requests), len(self._answers)) - 1]:
                if part is WAIT:
                    await trio.sleep_forever()
                await stream.send_all(part)

    def cursors(self) -> list[str | None]:
        """Return the `Last-Event-ID` of each request."""
        found = []
        for request in self.requests:
            lines = dict(line.lower().split(": ", 1) for line in request.split("\r\n")[1:] if line)
            found.append(lines.get("last-event-id"))
        return found


@asynccontextmanager
async def answering(*answers: Sequence[Any]) -> AsyncIterator[Answers]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        server = Answers(answers, f"http://127.0.0.1:{port}/")
        nursery.start_soon(trio.serve_listeners, server.handle, [listener])
        yield server
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def short_delays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client of a real server reconnect at once: its shortest delay is half a second."""
    if "no_leak" in request.fixturenames:
        monkeypatch.setattr(reconnecting, "FLOOR_SECONDS", 0.01)


def source_of(url: str, **options: Any) -> EventSource:
    return EventSource(url, **{"first_delay": 0.01, **options})


async def test_it_reconnects_with_its_cursor_until_the_server_has_no_more(no_leak: LeakCheck) -> None:
    answers = (
        [HEAD, b"id: 1\ndata: a\n\nid: 2\n\n"],
        [HEAD, b"retry: 0\ndata: b\n\ndata: not comp"],
        [refusal(503, "Retry-After: 0")],
        [HEAD, b"id: 3\ndata: c\n\n"],
        [refusal(204)],
    )
    statuses: list[SourceStatus] = []
    async with (
        answering(*answers) as server,
        source_of(server.url, on_status=lambda status, _: statuses.append(status)) as source,
    ):
        assert [(event.id, event.data) async for event in source] == [("1", "a"), (None, "b"), ("3", "c")]
        assert source.status is SourceStatus.CLOSED
        assert source.last_event_id == "3"
        with pytest.raises(StopAsyncIteration):
            await anext(source)
        assert server.cursors() == [None, "2", "2", "2", "3"]
    assert statuses[:3] == [SourceStatus.CONNECTING, SourceStatus.OPEN, SourceStatus.WAITING]
    with pytest.raises(trio.ClosedResourceError):
        await anext(source)
    with pytest.raises(RuntimeError, match="entered already"):
        await source.__aenter__()


async def test_no_event_is_lost_when_an_iteration_is_cancelled(no_leak: LeakCheck) -> None:
    answers = ([HEAD, b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", WAIT], [HEAD, b"id: 3\ndata: c\n\n", WAIT])
    async with answering(*answers) as server, source_of(server.url) as source:
        assert (await anext(source)).data == "a"
        assert source.last_event_id == "1"
        with trio.move_on_after(0) as scope:
            await anext(source)
        assert scope.cancelled_caught
        assert (await anext(source)).data == "b"
        with trio.move_on_after(0.05):
            await anext(source)
        assert (await anext(source)).data == "c"
        assert server.cursors() == [None, "2"]


@pytest.mark.parametrize("failing", list(SourceStatus))
async def test_nothing_is_left_if_the_status_cannot_be_reported(
    failing: SourceStatus, no_leak: LeakCheck
) -> None:
    def fail(status: SourceStatus, detail: str) -> None:
        if status is failing:
            raise OSError("the terminal is gone")

    async def follow(url: str) -> None:
        async with source_of(url, on_status=fail) as source:
            for _ in range(2):
                await anext(source)

    async with answering([HEAD, b"data: a\n\n"], [HEAD, b"data: b\n\n", WAIT]) as server:
        with pytest.raises(OSError, match="the terminal is gone"):
            await follow(server.url)


async def test_a_dead_connection_is_replaced(no_leak: LeakCheck) -> None:
    answers = ([HEAD, b"id: 1\ndata: a\n\n", WAIT], [HEAD, b"data: b\n\n", WAIT])
    async with answering(*answers) as server, source_of(server.url, idle_timeout=0.05) as source:
        with trio.fail_after(SECONDS):
            assert [(await anext(source)).data for _ in range(2)] == ["a", "b"]
        assert server.cursors() == [None, "1"]


def test_the_limit_grows_for_a_server_that_is_quiet() -> None:
    limit = IdleLimit(20)
    for expected in (40, 80, 160, 320, 320):
        limit.note_open()
        limit.note_silence()
        assert limit.seconds == expected
    limit.note_open()
    limit.note_bytes()
    limit.note_silence()
    assert limit.seconds == 20
    assert IdleLimit(math.inf).seconds == math.inf


def test_delays_have_a_floor_and_grow_while_attempts_fail() -> None:
    policy = ReconnectPolicy(3)
    assert policy.next_delay() == 3
    policy.set_retry(0)
    assert policy.next_delay() == FLOOR_SECONDS
    policy.note_end(0.1, has_events=True)
    assert policy.next_delay() == FLOOR_SECONDS
    for _ in range(12):
        policy.note_end(0.1, has_events=False)
    assert 30 <= policy.next_delay() <= 60
    policy.note_end(9, has_events=False)
    assert policy.next_delay() == FLOOR_SECONDS
    assert 100 <= policy.next_delay(100) <= 125
    assert 3600 <= policy.next_delay(1e9) <= 4500
    policy.set_retry(10**12)
    assert policy.next_delay() == 3600


@pytest.mark.parametrize(
    ("answer", "options", "error", "match"),
    [
        ([refusal(404)], {}, StreamRefused, "answered 404"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], {}, StreamRefused, "Content-Type is nothing"),
        ([refusal(503)], {"reconnect": False}, StreamUnavailable, "answered 503"),
        ([HEAD, b"data: x", WAIT], {"reconnect": False, "idle_timeout": 0.05}, StreamUnavailable, "nothing"),
        ([WAIT], {"reconnect": False, "connect_timeout": 0.05}, StreamUnavailable, "did not answer"),
        ([b"nonsense\r\n\r\n"], {"method": "POST"}, StreamUnavailable, "ProtocolError"),
        ([HEAD, b"data: " + b"x" * 200], {"max_event_size": 100}, ValueError, "larger"),
        ([], {"headers": {"a b": "c"}}, ValueError, "header"),
    ],
)
async def test_what_cannot_be_followed_is_an_error(
    no_leak: LeakCheck, answer: list[Any], options: dict[str, Any], error: type[Exception], match: str
) -> None:
    async with answering(answer) as server, source_of(server.url, **options) as source:
        with pytest.raises(error, match=match):
            await anext(source)
        with pytest.raises(StopAsyncIteration):
            await anext(source)
        assert source.status is SourceStatus.CLOSED


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "http://[::1/", "http://user:secret@:x/"])
async def test_a_malformed_url_is_not_quoted(url: str) -> None:
    async with source_of(url) as source:
        with pytest.raises(ValueError, match="the URL must be") as excinfo:
            await anext(source)
    assert "secret" not in str(excinfo.value)
    assert "secret" not in repr(source)


async def test_a_post_is_sent_once_and_a_client_of_ones_own_stays_open(no_leak: LeakCheck) -> None:
    async with answering([HEAD, b"event: trio-sse.heartbeat\ndata: 1\n\ndata: a\n\n"]) as server:
        async with httpx.AsyncClient() as client:
            options: dict[str, Any] = {"method": "POST", "content": "question", "client": client}
            async with EventSource(server.url, **options) as source:
                assert [event.data async for event in source] == ["a"]
            assert not client.is_closed
        assert len(server.requests) == 1
        assert server.requests[0].startswith("POST / ")


@pytest.mark.parametrize(
    ("answer", "returned"),
    [([WAIT], []), ([HEAD, WAIT], []), ([HEAD, b"data: a\n\ndata: b\n\n", WAIT], ["a", "b"])],
)
async def test_a_post_is_not_sent_again_after_a_cancelled_iteration(
    no_leak: LeakCheck, answer: list[Any], returned: list[str]
) -> None:
    async with (
        answering(answer) as server,
        source_of(server.url, method="POST", content="question") as source,
    ):
        received: list[object] = []

        async def read() -> None:
            async for event in source:
                received.append(event.data)

        with trio.CancelScope() as unsent:
            unsent.cancel()
            await anext(source)  # nothing was sent, so this does no harm
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await until(lambda: server.requests and len(received) == len(returned))
            await trio.testing.wait_all_tasks_blocked()  # until it waits for more
            nursery.cancel_scope.cancel()
        with pytest.raises(StreamUnavailable, match="sent only once"):
            await anext(source)
        with pytest.raises(StopAsyncIteration):
            await anext(source)
        assert (received, source.status) == (returned, SourceStatus.CLOSED)
        assert len(server.requests) == 1


async def test_two_tasks_cannot_iterate(no_leak: LeakCheck) -> None:
    async with (
        answering([HEAD, WAIT]) as server,
        source_of(server.url) as source,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(anext, source)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(trio.BusyResourceError):
            await anext(source)
        nursery.cancel_scope.cancel()


async def test_events_before_one_that_is_too_large_are_returned(no_leak: LeakCheck) -> None:
    large = HEAD + b"id: 1\ndata: a\n\nid: 2 \ndata: b\n\nid: 3\ndata: " + b"x" * 200 + b"\n\n"
    async with answering([large]) as server, source_of(server.url, max_event_size=100) as source:
        assert [(await anext(source)).data for _ in "ab"] == ["a", "b"]
        for _ in range(2):
            with pytest.raises((ValueError, StopAsyncIteration)):
                await anext(source)
        assert (source.last_event_id, source.status) == ("2 ", SourceStatus.CLOSED)


async def test_a_cursor_that_ends_in_spaces_is_sent(no_leak: LeakCheck) -> None:
    answers = [HEAD, b"id:  a b \t\ndata: x\n\n"], [refusal(204)]
    async with answering(*answers) as server, source_of(server.url) as source:
        assert [event.id async for event in source] == [" a b \t"]
        assert server.cursors() == [None, "a b"]


async def test_whatever_the_http_library_raises_later_it_reconnects(autojump_clock: MockClock) -> None:
    """The HTTP/2 of httpx raises errors of others, for example after a cancellation."""

    class Body(httpx.AsyncByteStream):
        def __init__(self, error: Exception) -> None:
            self._error = error

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"id: 1\ndata: x\n\n"
            raise self._error

    failures = [ValueError("semaphore released too many times"), KeyError(3)]
    answers: list[Any] = [*map(Body, failures), *failures, None]

    def answer(request: httpx.Request) -> httpx.Response:
        body = answers.pop(0)
        if isinstance(body, Exception):
            raise body
        fields = {"Content-Type": "text/event-stream"}
        return httpx.Response(204) if body is None else httpx.Response(200, headers=fields, stream=body)

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client,
        source_of("http://any/", client=client, longest_delay=0.01) as source,
    ):
        assert [event.data async for event in source] == ["x", "x"]
    answers = failures[:1]
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client,
        source_of("http://any/", client=client) as source,
    ):
        with pytest.raises(ValueError, match="semaphore"):
            await anext(source)


async def test_cancelled_iterations_do_not_flood_the_server(autojump_clock: MockClock) -> None:
    """What a server asks for is remembered, and a stream that was left is not opened again at once."""

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b": hello\n\n"
            await trio.sleep_forever()

    attempts: list[float] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        attempts.append(trio.current_time() - begun)
        if kind == "stalls":
            await trio.sleep_forever()
        if kind == "refuses":
            return httpx.Response(503, headers={"Retry-After": "60"})
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Body())

    for kind, least, most in (("refuses", 1, 2), ("stalls", 9, 11), ("streams", 9, 11)):
        attempts.clear()
        begun = trio.current_time()
        statuses = []
        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client,
            source_of("http://any/", first_delay=6, longest_delay=6, client=client) as source,
        ):
            while trio.current_time() < begun + 62:
                with trio.move_on_after(0.1):
                    await anext(source)
                statuses.append(source.status)
        assert least <= len(attempts) <= most, (kind, attempts)
        assert attempts[0] == 0
        assert statuses[20] is SourceStatus.WAITING


@pytest.mark.parametrize("options", [{"idle_timeout": 0}, {"first_delay": -1}, {"max_event_size": 0}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        EventSource("http://127.0.0.1/", **options)
