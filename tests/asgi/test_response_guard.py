"""`ResponseGuard`: how a response ends on a server that is not ours, message by message."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._asgi.client_disconnected import ClientDisconnected
from trio_sse._asgi.response_guard import GUARD, ResponseGuard, find_guard

from ..support.waiting import SECONDS

START = {"type": "http.response.start", "status": 200, "headers": []}
MORE = {"type": "http.response.body", "body": b"x", "more_body": True}
END = {"type": "http.response.body", "body": b"", "more_body": False}
BODY = {"type": "http.request", "body": b"", "more_body": False}
PIECE = {"type": "http.request", "body": b"x", "more_body": True}
LARGE = {"type": "http.request", "body": bytes(200_000), "more_body": True}
DISCONNECT = {"type": "http.disconnect"}


class FakeServer:
    """Records what is sent, and gives what a test puts in."""

    def __init__(self, http_version: str, nursery: trio.Nursery | None = None, **scope: Any) -> None:
        self.sent: list[Any] = []
        self.to_app, self._receive = trio.open_memory_channel[Any](10)
        self.on_send: Callable[[], Any] = trio.lowlevel.checkpoint
        scope["http_version"] = http_version
        self.guard = ResponseGuard(scope, self._receive.receive, self.send, nursery=nursery)

    async def send(self, message: Any) -> None:
        await self.on_send()
        self.sent.append(message)


async def send_all(guard: ResponseGuard, *messages: Any) -> None:
    for message in messages:
        await guard.send(message)


async def test_a_whole_response_passes() -> None:
    server = FakeServer("1.1")
    await send_all(server.guard, START, MORE, END)
    assert server.sent == [START, MORE, END]


async def test_a_connection_that_hypercorn_closes_meanwhile_is_a_disconnect() -> None:
    server = FakeServer("2")

    async def fail() -> None:
        raise trio.BusyResourceError("another task is currently sending")

    await server.guard.send(START)
    server.on_send = fail
    with pytest.raises(OSError, match="disconnected"):
        await server.guard.send(MORE)


async def test_the_end_of_a_cut_response_is_withheld_over_http1() -> None:
    server = FakeServer("1.1")
    await send_all(server.guard, START, MORE)
    server.guard.on_stream_end(is_cut=True, end_seconds=1)
    await send_all(server.guard, END)
    await server.guard.finish()
    assert server.sent == [START, MORE]


async def test_the_end_of_a_cut_response_is_sent_over_http2() -> None:
    server = FakeServer("2")
    await send_all(server.guard, START, MORE)
    server.guard.on_stream_end(is_cut=True, end_seconds=1)
    server.to_app.send_nowait(BODY)
    await send_all(server.guard, END)
    assert server.sent == [START, MORE, END]


async def test_after_a_disconnect_every_response_is_completed_so_that_the_server_frees_the_connection() -> (
    None
):
    for sent in ([], [START], [START, MORE]):
        server = FakeServer("1.1")
        await send_all(server.guard, *sent)
        server.to_app.send_nowait(DISCONNECT)
        await server.guard.receive()
        server.guard.on_stream_end(is_cut=True, end_seconds=1)
        await server.guard.finish()
        assert [message["type"] for message in server.sent[:1]] == ["http.response.start"]
        assert server.sent[-1] == END


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"5")]], ids=["no body", "an unread body"])
async def test_an_app_that_has_sent_nothing_is_answered_for(headers: list[tuple[bytes, bytes]]) -> None:
    server = FakeServer("1.1", headers=headers)
    await server.guard.finish()
    assert server.sent == [{**START, "status": 500, "headers": [(b"connection", b"close")]}, END]


async def test_nothing_is_sent_after_the_end() -> None:
    server = FakeServer("1.1")
    await send_all(server.guard, START, END)
    with pytest.raises(OSError, match="over"):
        await server.guard.send(MORE)
    await server.guard.finish()
    assert server.sent == [START, END]


async def test_nothing_is_sent_after_the_call() -> None:
    server = FakeServer("1.1")
    await send_all(server.guard, START)
    await server.guard.finish()
    with pytest.raises(OSError, match="over"):
        await server.guard.send(MORE)
    assert server.sent == [START]


async def test_a_disconnect_hurries_the_end_of_any_response(autojump_clock: MockClock) -> None:
    server = FakeServer("2")
    server.to_app.send_nowait(BODY)
    await send_all(server.guard, START)
    server.on_send = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.guard.receive)
        await wait_all_tasks_blocked()
        server.to_app.send_nowait(BODY)
        await wait_all_tasks_blocked()
        nursery.start_soon(send_all, server.guard, END)
        await wait_all_tasks_blocked()
        server.to_app.send_nowait(DISCONNECT)
    assert trio.current_time() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("http_version", "expected"), [("1.1", [START]), ("2", [START, END])])
async def test_a_response_that_the_app_leaves_incomplete_is_completed_over_http2(
    http_version: str, expected: list[Any]
) -> None:
    server = FakeServer(http_version)
    server.to_app.send_nowait(BODY)
    await send_all(server.guard, START)
    await server.guard.finish()
    assert server.sent == expected


async def test_over_http2_the_end_waits_for_the_rest_of_the_body() -> None:
    server = FakeServer("2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, server.guard, START, END)
        await wait_all_tasks_blocked()
        server.to_app.send_nowait(PIECE)
        await wait_all_tasks_blocked()
        assert server.sent == [START]
        server.to_app.send_nowait(BODY)
    assert server.sent == [START, END]


async def test_over_http2_the_end_waits_for_a_body_that_the_app_receives_meanwhile() -> None:
    server = FakeServer("2")
    received: list[Any] = []

    async def receive() -> None:
        received.append(await server.guard.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        nursery.start_soon(send_all, server.guard, START, END)
        await wait_all_tasks_blocked()
        server.to_app.send_nowait(BODY)
    assert received == [BODY]
    assert server.sent == [START, END]


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_after_its_end_an_app_receives_no_body_with_a_hole(http_version: str) -> None:
    last = {"type": "http.request", "body": b"z", "more_body": False}
    server = FakeServer(http_version, headers=[(b"transfer-encoding", b"chunked")])
    await server.guard.send(START)
    has_received = trio.Event()
    server.on_send = has_received.wait
    with trio.fail_after(SECONDS):
        await server.to_app.send(PIECE)
        assert await server.guard.receive() == PIECE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.guard.send, END)
            await wait_all_tasks_blocked()
            await server.to_app.send(PIECE)  # which is dropped
            await wait_all_tasks_blocked()
            await server.to_app.send(last)
            assert await server.guard.receive() == DISCONNECT
            has_received.set()


async def test_over_http2_a_body_that_never_ends_delays_the_end_for_a_bounded_time(
    autojump_clock: MockClock,
) -> None:
    server = FakeServer("2")
    await send_all(server.guard, START, END)
    assert server.sent == [START, END]
    assert trio.current_time() <= 31


async def test_the_end_of_a_stream_that_is_never_taken_is_bounded(autojump_clock: MockClock) -> None:
    server = FakeServer("2")
    server.to_app.send_nowait(BODY)
    await send_all(server.guard, START)
    server.guard.on_stream_end(is_cut=False, end_seconds=3)
    server.on_send = trio.sleep_forever
    await send_all(server.guard, END)
    assert trio.current_time() == pytest.approx(3, abs=0.1)


async def test_a_disconnect_hurries_the_end_of_a_stream(autojump_clock: MockClock) -> None:
    server = FakeServer("2")
    server.to_app.send_nowait(BODY)
    await send_all(server.guard, START)
    server.guard.on_stream_end(is_cut=False, end_seconds=30)
    server.on_send = trio.sleep_forever
    server.to_app.send_nowait(DISCONNECT)
    await send_all(server.guard, END)
    assert trio.current_time() == pytest.approx(1, abs=0.1)


async def test_a_disconnect_waits_until_a_send_has_returned(autojump_clock: MockClock) -> None:
    server = FakeServer("1.1")
    sent = trio.Event()
    server.on_send = sent.wait
    received: list[Any] = []

    async def receive() -> None:
        received.append(await server.guard.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, server.guard, START)
        nursery.start_soon(receive)
        server.to_app.send_nowait(DISCONNECT)
        await wait_all_tasks_blocked()
        assert received == []
        sent.set()
    assert received == [DISCONNECT]
    assert await server.guard.receive() == DISCONNECT  # each time


async def test_a_send_that_never_returns_delays_a_disconnect_for_a_second(autojump_clock: MockClock) -> None:
    server = FakeServer("1.1")
    server.on_send = trio.sleep_forever

    async def send() -> None:
        with pytest.raises(OSError, match="disconnected"):
            await server.guard.send(START)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        server.to_app.send_nowait(DISCONNECT)
        await wait_all_tasks_blocked()
        assert await server.guard.receive() == DISCONNECT
        assert trio.current_time() == pytest.approx(1, abs=0.1)


async def test_a_copy_of_the_scope_has_the_same_guard() -> None:
    guard = FakeServer("1.1").guard
    assert find_guard(copy.deepcopy({"extensions": {GUARD: guard}})) is guard
    assert find_guard({"extensions": None}) is None


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def sized(size: int) -> dict[str, Any]:
    return start(200, (b"content-length", b"%d" % size))


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([start(101)], ValueError),
        ([start(600)], ValueError),
        ([start(200, (b"content-length", b"1"), (b"content-length", b"2"))], ValueError),
        ([sized(2), END], ValueError),
        ([sized(2), MORE, END], ValueError),
        ([sized(1), MORE, MORE], ValueError),
        ([START, START], RuntimeError),
        ([MORE], RuntimeError),
        ([START, {**MORE, "body": "text"}], TypeError),
        ([START, {**END, "body": "text"}], TypeError),
    ],
)
async def test_what_would_break_the_server_s_connection_is_not_sent(
    messages: list[Any], error: type[Exception]
) -> None:
    server = FakeServer("1.1")
    await send_all(server.guard, *messages[:-1])
    with pytest.raises(error):
        await server.guard.send(messages[-1])
    assert server.sent == messages[:-1]


@pytest.mark.parametrize("messages", [[sized(2), MORE, {**END, "body": b"y"}], [start(204), END]])
async def test_a_body_as_long_as_its_head_says_passes(messages: list[Any]) -> None:
    server = FakeServer("1.1")
    await send_all(server.guard, *messages)
    assert server.sent == messages


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "http.response.push", "path": "/\xe9", "headers": []}, ValueError),
        ({"type": "http.response.push", "path": "page", "headers": []}, ValueError),
        ({"type": "http.response.push", "path": "/" + "x" * 9000, "headers": []}, ValueError),
        ({"type": "http.response.push", "path": b"/", "headers": []}, TypeError),
        ({"type": "http.response.push", "path": "/", "headers": [(b"a b", b"c")]}, ValueError),
        ({"type": "http.response.early_hint", "links": [b"a\r\nb: c"]}, ValueError),
        ({"type": "http.response.early_hint", "links": [7]}, TypeError),
        ({"type": "http.response.pathsend", "path": "/etc/hostname"}, RuntimeError),
        ({"type": "websocket.close"}, RuntimeError),
        ({"type": None}, RuntimeError),
    ],
)
async def test_what_hypercorn_would_not_get_over_of_its_extensions_is_not_sent(
    message: dict[str, Any], error: type[Exception]
) -> None:
    server = FakeServer("2")
    with pytest.raises(error):
        await server.guard.send(message)
    assert server.sent == []


async def test_early_hints_and_pushes_pass_with_the_fields_that_http2_has() -> None:
    server = FakeServer("2")
    hint = {"type": "http.response.early_hint", "links": [b"</a.js>; rel=preload"]}
    push = {"type": "http.response.push", "path": "/a.js?v=1", "headers": [(b"accept", b"*/*")]}
    closing = {**push, "headers": [*push["headers"], (b"Connection", b"close"), (b"host", b"a")]}
    await send_all(server.guard, hint, closing)
    assert server.sent == [hint, push]


async def test_trailers_are_left_out() -> None:
    server = FakeServer("2")
    server.to_app.send_nowait(BODY)
    await send_all(server.guard, {**START, "trailers": True}, MORE, END)
    await server.guard.send({"type": "http.response.trailers", "headers": []})
    assert server.sent == [{**START, "trailers": False}, MORE, END]


@pytest.mark.parametrize(
    ("fields", "is_read", "closes"),
    [
        ([], False, False),
        ([(b"content-length", b"0")], False, False),
        ([(b"Content-Length", b"10")], False, True),
        ([(b"content-length", b"10")], True, False),
        ([(b"transfer-encoding", b"chunked")], False, True),
    ],
)
async def test_the_head_says_that_hypercorn_closes_a_connection_with_an_unread_body(
    fields: list[tuple[bytes, bytes]], is_read: bool, closes: bool
) -> None:
    server = FakeServer("1.1", headers=fields)
    if is_read:
        await server.to_app.send(BODY)
        await server.guard.receive()
    await server.guard.send(START)
    assert server.sent[0]["headers"] == [(b"connection", b"close")] * closes


@pytest.mark.parametrize(
    ("method", "messages"),
    [("HEAD", [START]), ("GET", [start(304)]), ("GET", [start(204)]), ("GET", [sized(1), MORE])],
)
async def test_a_response_of_which_nothing_is_missing_is_completed(method: str, messages: list[Any]) -> None:
    server = FakeServer("1.1", method=method)
    await send_all(server.guard, *messages)
    await server.guard.finish()
    assert server.sent[-1] == END


async def test_a_status_without_a_body_has_no_length() -> None:
    server = FakeServer("2")
    await server.guard.send(start(304, (b"content-length", b"3"), (b"etag", b"x")))
    assert server.sent[0]["headers"] == [(b"etag", b"x")]


async def test_a_client_that_leaves_before_the_last_message_is_no_failure() -> None:
    async def fail() -> None:
        raise BrokenPipeError

    server = FakeServer("2")
    server.on_send = fail
    await server.guard.finish()


async def test_a_client_that_leaves_before_the_head_is_no_failure() -> None:
    failures: list[Exception] = [BrokenPipeError("gone"), RuntimeError("there was no head")]

    async def fail() -> None:
        raise failures.pop(0)

    server = FakeServer("1.1")
    server.on_send = fail
    with pytest.raises(OSError, match="gone"):
        await server.guard.send(start(200, (b"content-length", b"0")))
    with pytest.raises(OSError, match="disconnected"):  # where middleware has kept the first from the app
        await server.guard.send(END)
    assert len(failures) == 1
    await server.guard.finish()
    assert failures == []


@pytest.mark.parametrize("received", [[BODY], [PIECE], [PIECE, BODY], [LARGE], [LARGE, PIECE]])
@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_an_app_that_only_sends_learns_of_a_disconnect(
    received: list[Any], http_version: str, autojump_clock: MockClock
) -> None:
    """Over HTTP/2, hypercorn's `send` may never return then. A large upload still waits for the app."""
    server = FakeServer(http_version)
    scope = {"http_version": http_version, "headers": [(b"transfer-encoding", b"chunked")]}
    guard = ResponseGuard(scope, server.guard.receive, server.send, write_timeout=100)
    await guard.send(START)
    await guard.send(MORE)
    server.on_send = trio.sleep_forever
    for message in [*received, DISCONNECT]:
        await server.to_app.send(message)
    with pytest.raises(OSError, match="disconnected"):
        await guard.send(MORE)
    assert trio.current_time() == pytest.approx(100 if received[0] is LARGE else 0, abs=1)
    ahead = received[:1] if received[0] is LARGE else received
    assert [await guard.receive() for _ in ahead] == ahead
    assert [await guard.receive() for _ in range(2)] == [DISCONNECT, DISCONNECT]
    assert guard.has_lost_client
    server.on_send = trio.lowlevel.checkpoint
    await guard.finish()


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_a_disconnect_that_one_task_receives_ends_the_sends_of_others(
    http_version: str, autojump_clock: MockClock
) -> None:
    """Over HTTP/2, hypercorn may return one of them only."""
    server, failed = FakeServer(http_version), []
    await server.guard.send(START)
    server.on_send = trio.sleep_forever

    async def send() -> None:
        try:
            await server.guard.send(MORE)
        except OSError as error:
            failed.append(str(error))

    async with trio.open_nursery() as nursery:
        receiving = trio.CancelScope()

        async def receive() -> None:
            with receiving:
                await server.guard.receive()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await server.to_app.send(DISCONNECT)
        await wait_all_tasks_blocked()
        receiving.cancel()
    assert len(failed) == 3
    assert trio.current_time() == pytest.approx(1, abs=0.5)


async def test_a_send_ends_though_the_task_that_received_when_it_began_has_stopped(
    autojump_clock: MockClock,
) -> None:
    """As a stream's does, which ends while middleware still sends its last events."""
    async with trio.open_nursery() as nursery:
        server = FakeServer("2", nursery=nursery)
        await server.guard.send(START)
        server.on_send = trio.sleep_forever
        async with trio.open_nursery() as receiving:
            receiving.start_soon(server.guard.receive)
            await wait_all_tasks_blocked()

            async def send() -> None:
                with pytest.raises(OSError, match="disconnected"):
                    await server.guard.send(MORE)

            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            receiving.cancel_scope.cancel()
        for message in (BODY, DISCONNECT):
            await server.to_app.send(message)
        assert await server.guard.receive() == BODY
    assert trio.current_time() == pytest.approx(1, abs=0.5)


async def test_over_http1_a_client_that_has_ended_its_side_receives_what_is_sent_next() -> None:
    server = FakeServer("1.1")
    await server.to_app.send(DISCONNECT)
    await send_all(server.guard, START, {**MORE, "body": b""})
    server.on_send = wait_all_tasks_blocked
    with pytest.raises(OSError, match="disconnected"):
        await server.guard.send(MORE)
    assert server.sent[-1] == MORE


async def test_a_send_that_is_cancelled_raises_no_group() -> None:
    """Code that catches `trio.Cancelled` there, as streams do, would not notice it."""
    server, raised = FakeServer("2"), []
    await server.guard.send(START)
    server.on_send = trio.sleep_forever
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await server.guard.send(MORE)
        except BaseException as error:
            raised.append(type(error))
            raise
    assert raised == [trio.Cancelled]


async def test_a_send_that_fails_while_its_task_is_cancelled_raises_no_group() -> None:
    """Apps catch `OSError`."""
    server, raised = FakeServer("2"), []
    await server.guard.send(START)

    async def fail() -> None:
        await wait_all_tasks_blocked()
        scope.cancel()
        raise BrokenPipeError("gone")

    server.on_send = fail
    with trio.CancelScope() as scope:
        try:
            await server.guard.send(MORE)
        except BaseException as error:
            raised.append(type(error))
    assert raised == [ClientDisconnected]


async def test_an_app_may_receive_while_it_sends() -> None:
    server, blocked, got = FakeServer("2"), trio.Event(), []
    await server.guard.send(START)
    server.on_send = blocked.wait

    async def receive() -> None:
        got.append(await server.guard.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.guard.send, MORE)
        await wait_all_tasks_blocked()
        for _ in range(2):
            nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        for message in (PIECE, BODY):
            assert server.guard.awaits_body()
            await server.to_app.send(message)
            await wait_all_tasks_blocked()
        assert got == [PIECE, BODY]
        assert not server.guard.awaits_body()
        blocked.set()
    assert server.sent == [START, MORE]


async def test_the_end_is_sent_though_the_app_has_left_a_large_body() -> None:
    """Hypercorn reports the end of a response to the app's queue, which is full, before it closes."""
    server = FakeServer("1.1", headers=[(b"content-length", b"1000000")])
    for _ in range(10):
        await server.to_app.send(PIECE)
    await server.guard.send(START)

    async def report() -> None:
        await server.to_app.send(DISCONNECT)

    server.on_send = report
    with trio.fail_after(SECONDS):
        await server.guard.send(END)
    assert server.sent[-1] == END


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_an_end_that_fails_while_the_guard_receives_is_a_disconnect(http_version: str) -> None:
    async def fail() -> None:
        raise BrokenPipeError("gone")

    server = FakeServer(http_version, headers=[(b"content-length", b"10")])
    await server.guard.send(START)
    if server.guard.has_unread_body is False:
        await server.to_app.send(BODY)
    server.on_send = fail
    with pytest.raises(OSError, match="gone"):
        await server.guard.send(END)
