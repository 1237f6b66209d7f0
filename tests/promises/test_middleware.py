"""Streams under middleware that delays, holds back or sends from another task what an app sends."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from trio_sse import Connection, EndReason

from ..support import hosts
from ..support.certificates import Certificate
from ..support.client import Client
from ..support.hosts import Run, until_subscribed
from ..support.leaks import LeakCheck
from ..support.waiting import until
from .every_host.observing import NEVER

pytestmark = pytest.mark.integration

Middleware = Callable[[Any], Any]

APPS = [name for name in hosts.NAMES if not name.startswith("native")]
ON_HYPERCORN = hosts.ON_HYPERCORN

# Where the response's head waits for the first part of the body, and the handler runs in the app's call.
INLINE = [name for name in APPS if name not in hosts.OF_QUART and name not in ON_HYPERCORN]


@pytest.fixture(params=APPS)
def run(request: pytest.FixtureRequest, no_leak: LeakCheck, certificate: Certificate) -> Run:
    """Run each host that has an app."""
    return partial(hosts.running, request.param, no_leak, certificate)


def wrapping_send(wrap: Callable[[Any], Any]) -> Middleware:
    """Return middleware that passes another `send` on, for requests of HTTP."""

    def middleware(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, wrap(send) if scope["type"] == "http" else send)

        return call

    return middleware


def with_first_body(send: Any) -> Any:
    """Send the head only when the first part of the body is there, as middleware that compresses does."""
    held: list[Any] = []

    async def wrapped(message: Any) -> None:
        if message["type"] == "http.response.start":
            held.append(message)
            return
        while held:
            await send(held.pop())
        await send(message)

    return wrapped


def with_first_bytes(send: Any) -> Any:
    """Send the head only when the first bytes of the body are there."""
    held = with_first_body(send)

    async def wrapped(message: Any) -> None:
        if message.get("body") or not message.get("more_body"):
            await held(message)

    return wrapped


def flushing(send: Any) -> Any:
    """Send an empty part of the body behind each message."""

    async def wrapped(message: Any) -> None:
        await send(message)
        if message["type"] == "http.response.start" or message.get("more_body"):
            await send({"type": "http.response.body", "body": b"", "more_body": True})

    return wrapped


def from_another_task(app: Any) -> Any:
    """Send all that the app sends from another task, and later."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        give, take = trio.open_memory_channel[Any](100)

        async def forward() -> None:
            async for message in take:
                await trio.lowlevel.checkpoint()
                await send(message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(forward)
            try:
                await app(scope, receive, give.send)
            finally:
                give.close()

    return call


class AddsField(BaseHTTPMiddleware):
    """Starlette's own way to write middleware, which runs the app in another task."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Added"] = "yes"
        return response


@pytest.mark.parametrize(
    "middleware",
    [
        lambda app: AddsField(AddsField(app)),
        lambda app: AddsField(GZipMiddleware(app, minimum_size=1)),
        wrapping_send(with_first_body),
        lambda app: wrapping_send(with_first_body)(AddsField(app)),  # which passes on no empty parts
        wrapping_send(with_first_bytes),
        wrapping_send(flushing),
        from_another_task,
    ],
    ids=["base", "base-and-gzip", "first-body", "first-body-of-base", "first-bytes", "flush", "another-task"],
)
async def test_streams_run_under_middleware(run: Run, middleware: Middleware) -> None:
    async with run(middleware=middleware) as host:
        async with host.opened("/three") as stream:
            assert len(await stream.rest()) == 3
            assert stream.is_ended
        async with host.opened("/quiet", "Accept-Encoding: gzip") as stream:
            assert (await stream.wait_head()).status == 200
        async with host.opened("/live") as stream:
            await until_subscribed(host)
            await host.hub.publish("live", "hello")
            assert (await stream.event()).data == "hello"
        for path, status in (("/returns", 200), ("/refuses", 403)):
            async with host.asked(path) as stream:
                assert (await stream.wait_head()).status == status
        async with host.opened("/fails_after") as stream:
            assert [event.data for event in await stream.rest()] == ["one"]
            assert host.is_cut_or_ended(stream)


@pytest.mark.parametrize(
    ("run", "at", "is_sent", "outer"),
    [(name, "http.response.start", False, None) for name in APPS]
    + [(name, "http.response.start", False, AddsField) for name in APPS if name not in hosts.OF_QUART]
    + [(name, "http.response.body", False, None) for name in INLINE]
    + [(name, "http.response.body", True, None) for name in ON_HYPERCORN],
    indirect=["run"],
)
async def test_a_shutdown_answers_a_stream_whose_response_is_held_back(
    run: Run, at: str, is_sent: bool, outer: Middleware | None, caplog: pytest.LogCaptureFixture
) -> None:
    is_held, goes_on = trio.Event(), trio.Event()

    def holding(send: Any) -> Any:
        async def hold(message: Any) -> None:
            if message["type"] == at and not is_held.is_set():
                is_held.set()
                await goes_on.wait()
            await send(message)

        return hold

    def middleware(app: Any) -> Any:
        held = wrapping_send(holding)(app)
        return held if outer is None else outer(held)

    async with run(drain_timeout=20, middleware=middleware) as host, host.asked("/quiet") as stream:
        await is_held.wait()
        host.nursery.start_soon(host.shut_down)
        assert await host.life.wait_ends(1) == [EndReason.SERVER_SHUTDOWN]
        goes_on.set()
        head = await stream.wait_head()
        if is_sent:
            await stream.rest()
            assert (head.status, stream.retry is None) == (200, False)
            assert host.is_cut_or_ended(stream)
        else:
            assert (head.status, head.get("retry-after") is None) == (503, False)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("run", [name for name in APPS if name not in hosts.OF_QUART], indirect=True)
async def test_clients_that_leave_before_the_head_are_no_errors_under_middleware(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async with run(middleware=AddsField, keepalive=1000) as host:
        for number, line in enumerate(("X-Any: stream", "Accept: application/json"), start=1):
            async with host.asked("/silent", line) as stream:
                await host.life.is_silent.wait()
                await stream.leave()
            assert await host.life.wait_ends(number) == [EndReason.CLIENT_DISCONNECTED] * number
        async with host.opened("/three") as stream:
            assert len(await stream.rest()) == 3
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_status_without_a_body_has_none(run: Run) -> None:
    def bodiless(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            async def send_on(message: Any) -> None:
                if message["type"] == "http.response.start" and scope["path"] == "/three":
                    message = {**message, "status": 204}
                await send(message)

            await app(scope, receive, send_on)

        return call

    async with run(middleware=bodiless) as host, host.asked("/three", "Connection: close") as stream:
        if isinstance(stream, Client):
            head, _, body = (await stream.closed()).partition(b"\r\n\r\n")
            status = int(head.split()[1])
        else:
            status, body = (await stream.wait_head()).status, await stream.whole()
        assert (status, b"data:" in body) in ((204, False), (500, False))


def spoiling(app: Any) -> Any:
    """Change the parts of a body in place, as Starlette's `GZipMiddleware` does, if the client asks."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        async def spoil(message: Any) -> None:
            if message["type"] == "http.response.body":
                message["body"] += b"spoiled"
            await send(message)

        await app(scope, receive, spoil if scope.get("query_string") == b"spoiled" else send)

    return call


async def test_what_middleware_changes_in_a_message_is_in_no_other_response(run: Run) -> None:
    async with run(middleware=spoiling) as host:
        async with host.opened("/three?spoiled") as stream:
            await stream.rest()
        async with host.opened("/three") as stream:
            assert [event.id for event in await stream.rest()] == ["0", "1", "2"]


async def test_middleware_gives_up_on_a_stream_that_has_not_begun(run: Run) -> None:
    def impatient(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["path"] != "/silent":
                await app(scope, receive, send)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(app, scope, receive, send)
                await host.life.is_silent.wait()
                nursery.cancel_scope.cancel()
            await send({"type": "http.response.start", "status": 408, "headers": []})
            await send({"type": "http.response.body", "body": b"too late"})

        return call

    async with run(middleware=impatient) as host, host.asked("/silent") as stream:
        if isinstance(stream, Client):
            assert (await stream.head()).status == 408
            assert await stream.whole() == b"too late"
        else:
            assert (await stream.wait_head()).status == 408
            assert await stream.whole() == b"too late"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_client_that_leaves_with_the_whole_body_is_noticed(run: Run, method: str) -> None:
    ended = trio.Event()

    async def answer_and_go_on(scope: Any, receive: Any, send: Any) -> None:
        fields = [(b"content-length", b"2")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": b"ok", "more_body": True})  # and no end
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            ended.set()

    async with run(middleware=hosts.answering("/whole", answer_and_go_on)) as host:
        async with host.opened("/whole", method=method) as client:
            if method == "GET":
                assert await (client.whole() if isinstance(client, Client) else client.read()) == b"ok"
            assert not ended.is_set()
        await ended.wait()


async def test_an_app_that_gives_up_its_last_part_has_nothing_more_to_receive(run: Run) -> None:
    given_up, ended = trio.Event(), trio.Event()

    async def give_up(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            with trio.move_on_after(0.2):
                await send({"type": "http.response.body", "body": bytes(10_000_000)})
            given_up.set()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            ended.set()

    async with run(middleware=hosts.answering("/large", give_up)) as host:
        async with host.opened("/large", held=True):
            await given_up.wait()
        await ended.wait()


@pytest.mark.parametrize("uploads", [False, True])
async def test_an_app_that_only_sends_learns_that_its_client_has_left(run: Run, uploads: bool) -> None:
    ended = trio.Event()

    async def send_on(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await trio.sleep(0.01)
        finally:
            ended.set()

    async with run(middleware=hosts.answering("/sends", send_on)) as host:
        async with host.uploading("/sends") if uploads else host.opened("/sends") as client:
            if uploads:
                await client.wait_head()
            assert (await client.read()).startswith(b"x")
        await ended.wait()


@pytest.mark.parametrize("path", ["/silent", "/three", "/live"])
async def test_middleware_answers_instead_of_a_stream(run: Run, path: str) -> None:
    class Answers(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            if path == "/silent":  # as after a time: the app goes on
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(call_next, request)
                        await host.life.is_silent.wait()
                        scope.cancel()
            else:
                await call_next(request)
            return Response("by itself", 504, media_type="text/plain")

    async with run(middleware=Answers) as host:
        async with host.opened(path) as client:
            assert (client.response.status, client.response.get("content-type")) == (
                504,
                "text/plain; charset=utf-8",
            )
            assert await client.whole() == b"by itself"
        await until(lambda: host.statistics().open_streams == 0)


async def test_middleware_may_ask_whether_the_client_has_left(run: Run) -> None:
    def asking(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                assert not await Request(scope, receive).is_disconnected()  # which drops what it receives
            await app(scope, receive, send)

        return call

    async with run(middleware=asking) as host:
        async with host.opened("/three") as stream:
            assert [event.data for event in await stream.events(3)] == ['{"n":0}', '{"n":1}', '{"n":2}']
        if host.name not in hosts.OF_QUART:  # its own `get_data` waits for the message
            # An HTTP/2 request of hypercorn's does not say that there is no body, unless this does.
            empty = ["Content-Length: 0"] if host.name in hosts.HYPERCORNS_HTTP2 else []
            async with host.opened("/echo", *empty, method="POST") as stream:
                assert (await stream.event()).data == ""
        async with host.opened("/refuses") as stream:
            assert stream.response.status == 403
        assert (await host.poll("/three?wait=0.01"))["events"]
        async with host.opened("/live") as stream:
            await until_subscribed(host)
        await until(lambda: EndReason.CLIENT_DISCONNECTED in host.life.ends)


@pytest.mark.parametrize("has_begun", [True, False])
async def test_all_tasks_that_receive_learn_of_a_disconnect(run: Run, has_begun: bool) -> None:
    received: list[str] = []
    waits, told = trio.Event(), trio.Event()

    async def receive_in_three(scope: Any, receive: Any, send: Any) -> None:
        async def receive_all() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            received.append("http.disconnect")

        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
        with trio.CancelScope(shield=True):  # our server cancels such a call
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(receive_all)
                await trio.testing.wait_all_tasks_blocked(0.01)
                waits.set()
        told.set()

    async with run(middleware=hosts.answering("/three-tasks", receive_in_three)) as host:
        async with host.asked("/three-tasks") as client:
            await waits.wait()
            if has_begun:
                await client.wait_head()
        await told.wait()
    assert received == ["http.disconnect"] * 3


@pytest.mark.parametrize(
    ("method", "path", "lines"),
    [
        ("GET", "/silent", ()),
        ("GET", "/live", ()),
        ("GET", "/live", ("Accept: application/json",)),
        ("HEAD", "/silent", ()),
    ],
    ids=["stream without a head", "stream", "poll", "HEAD"],
)
async def test_a_disconnect_that_middleware_keeps_from_the_app_ends_its_stream(
    run: Run, method: str, path: str, lines: tuple[str, ...]
) -> None:
    def keeping(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            async def receive_but_disconnects() -> Any:
                message = await receive()
                if message["type"] == "http.disconnect":
                    await trio.sleep_forever()
                return message

            await app(scope, receive_but_disconnects if scope["type"] == "http" else receive, send)

        return call

    async with run(middleware=keeping, keepalive=NEVER) as host:
        async with host.asked(path, *lines, method=method) as stream:
            if path == "/silent":
                await host.life.is_silent.wait()
            else:
                if not lines:
                    await stream.wait_head()
                await until_subscribed(host)
        assert await host.life.wait_ends(1) == [EndReason.CLIENT_DISCONNECTED]
        await until(lambda: host.statistics().open_streams == 0)


async def test_a_stream_that_begins_after_its_client_has_left_ends_at_once(run: Run) -> None:
    asked, over = trio.Event(), trio.Event()

    def waiting(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or asked.is_set():
                await app(scope, receive, send)
                return
            asked.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            to_app, receiving = trio.open_memory_channel[Any](1)
            to_app.send_nowait({"type": "http.request", "body": b"", "more_body": False})
            try:
                await app(scope, receiving.receive, send)  # which does not learn of the disconnect
            finally:
                over.set()

        return call

    async with run(middleware=waiting, keepalive=NEVER) as host:
        async with host.asked("/silent"):
            await asked.wait()
        await over.wait()
        await until(lambda: host.statistics().open_streams == 0)
        assert host.life.ends in ([], [EndReason.CLIENT_DISCONNECTED])


@pytest.mark.parametrize(
    ("method", "path", "line"),
    [
        ("GET", "/silent", "X-Any: stream"),
        ("GET", "/live", "Accept: application/json"),
        ("HEAD", "/silent", "X-Any: head"),
    ],
    ids=["stream", "poll", "HEAD"],
)
async def test_what_begins_within_a_shutdown_is_refused(run: Run, method: str, path: str, line: str) -> None:
    asked, goes_on = trio.Event(), trio.Event()

    def waiting(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                asked.set()
                await goes_on.wait()
            await app(scope, receive, send)

        return call

    async with run(middleware=waiting, keepalive=NEVER, drain_timeout=20) as host:
        async with host.asked(path, line, method=method) as stream:
            await asked.wait()
            host.nursery.start_soon(host.shut_down)
            await trio.testing.wait_all_tasks_blocked(0.01)
            goes_on.set()
            assert (await stream.wait_head()).status == 503
        await host.ended.wait()
        assert host.life.ends == []


async def test_what_middleware_adds_to_one_head_is_in_no_other(run: Run) -> None:
    numbers = itertools.count(1)

    def adding(send: Any) -> Any:
        async def add(message: Any) -> None:
            if message["type"] == "http.response.start":
                fields = message["headers"]
                if not any(name == b"x-number" for name, _ in fields):
                    fields.append((b"x-number", b"%d" % next(numbers)))  # in place
            await send(message)

        return add

    requests = [("/three", "GET"), ("/three", "HEAD"), ("/refuses", "GET"), ("/returns", "GET")]
    async with run(middleware=wrapping_send(adding)) as host:
        for number, (path, method) in enumerate(requests * 2, start=1):
            async with host.opened(path, method=method) as stream:
                assert stream.response.get("x-number") == str(number)


async def test_a_request_has_one_stream_at_once(run: Run) -> None:
    def doubling(app: Any) -> Any:
        async def send_nothing(message: Any) -> None:
            await trio.lowlevel.checkpoint()

        async def call(scope: Any, receive: Any, send: Any) -> None:
            async def again() -> None:
                to_app, receiving = trio.open_memory_channel[Any](1)
                to_app.send_nowait({"type": "http.request", "body": b"", "more_body": False})
                await host.life.is_silent.wait()
                copied = {**scope, "extensions": copy.deepcopy(scope["extensions"])}
                with suppress(RuntimeError):  # which Quart logs, and answers
                    await app(copied, receiving.receive, send_nothing)
                refused.set()

            if scope["type"] != "http" or scope["path"] != "/silent":
                await app(scope, receive, send)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(again)
                await app(scope, receive, send)

        return call

    refused = trio.Event()
    async with run(middleware=doubling) as host:
        async with host.asked("/silent"):
            await refused.wait()
            assert host.statistics().open_streams == 1
        async with host.opened("/three") as stream:
            assert len(await stream.rest()) == 3


@pytest.mark.parametrize("is_sent", [True, False])
async def test_a_stream_is_closed_while_its_head_is_sent(
    run: Run, is_sent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def closing(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            async def send_on(message: Any) -> None:
                is_head = message["type"] == "http.response.start" and scope["path"] == "/live"
                if is_head and is_sent:
                    await send(message)
                if is_head and not closed:
                    closed.append(host.life.last)
                    closed[0].close()
                    await trio.lowlevel.checkpoint()  # where the handler sends, it is cancelled here
                if not (is_head and is_sent):
                    await send(message)

            await app(scope, receive, send_on)

        return call

    closed: list[Any] = []
    async with run(middleware=closing) as host:
        async with host.asked("/live", "Connection: close") as stream:
            if isinstance(stream, Client):
                await stream.closed()
            else:
                await stream.whole()
        (reason,) = await host.life.wait_ends(1)
        assert reason in (EndReason.FINISHED, EndReason.WRITE_TIMEOUT)
        assert host.statistics().open_streams == 0
        async with host.opened("/three") as following:
            assert len(await following.rest()) == 3
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("how", ["leaves", "leaves and fails", "revoked"])
async def test_a_task_outside_learns_that_a_stream_will_not_begin(run: Run, how: str) -> None:
    class Gone(Exception):
        """What middleware raises when it can pass nothing on."""

    def holding(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            async def send_on(message: Any) -> None:
                if message["type"] == "http.response.start":
                    holds.set()
                    with trio.CancelScope(shield=True):
                        await host.life.wait_ends(1)
                    if how == "leaves and fails":
                        raise Gone
                await send(message)

            with suppress(Gone):
                await app(scope, receive, send_on)

        return call

    async def send_first(connection: Connection) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await connection.send("first")
        told.set()

    holds, told = trio.Event(), trio.Event()
    async with run(middleware=holding) as host:
        async with host.asked("/silent"):
            await until(lambda: host.life.last is not None)
            connection = host.life.last
            assert connection is not None
            host.nursery.start_soon(send_first, connection)
            await holds.wait()
            if how == "revoked":
                assert sum([owner.close_connections(id=connection.id) for owner in host.owners]) == 1
                await told.wait()
        await told.wait()


async def test_clients_that_leave_amid_an_upload_are_no_errors(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def reading(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["path"] != "/upload":
                await app(scope, receive, send)
                return
            has_begun.set()
            try:
                await Request(scope, receive).body()  # raises Starlette's ClientDisconnect
            finally:
                has_ended.set()

        return call

    has_begun, has_ended = trio.Event(), trio.Event()
    async with run(middleware=reading) as host:
        async with host.uploading("/upload"):
            await has_begun.wait()
        await has_ended.wait()
        async with host.opened("/three") as stream:
            assert len(await stream.rest()) == 3
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_large_body_that_the_app_leaves_keeps_no_connection(run: Run, is_whole: bool) -> None:
    def leaving(app: Any) -> Any:
        async def call(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["path"] != "/upload":
                await app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"who", "more_body": True})
            await has_sent.wait()
            if is_whole:
                await send({"type": "http.response.body"})

        return call

    has_sent = trio.Event()
    async with run(middleware=leaving) as host, await host.connect() as connection:
        if not isinstance(connection, Client):
            return  # of HTTP/2: what nobody reads stays with its client
        head = b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n"
        async with trio.open_nursery() as nursery:

            async def upload() -> None:
                with suppress(trio.BrokenResourceError):
                    await connection.send(head + b"x" * 1_000_000)

            nursery.start_soon(upload)
            assert (await connection.head()).status == 401
            await trio.testing.wait_all_tasks_blocked(0.1)  # the server takes no more
            has_sent.set()
            await connection.whole()
            if not is_whole or host.name in hosts.ON_HYPERCORN:
                await connection.closed()
            nursery.cancel_scope.cancel()
