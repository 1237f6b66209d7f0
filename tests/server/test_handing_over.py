"""A connection passes from request to stream and back; nobody else may touch it, and nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response as StarletteResponse
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

import trio_sse._server.serving
from trio_sse import Connection, EndReason, Hub, Response, Server
from trio_sse._transport.base import HandleState
from trio_sse._transport.socket import SocketTransport
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE

from ..support.asgi_apps import GET, Receive, Send, accept, http_only, ignore, websocket_only
from ..support.certificates import Contexts
from ..support.checkpoints import Interruption, interrupt_at_each_checkpoint
from ..support.client import Client
from ..support.leaks import LeakCheck, MakeServer, living_tasks, open_descriptors
from ..support.serving import on_sockets
from ..support.waiting import SECONDS
from ..support.websocket_client import CLOSE, TEXT, Frame, WebSocket, encode_close

# Who keeps a connection that is not his any more


async def test_a_connection_that_a_handler_kept_cannot_touch_the_next_request(
    make_server: MakeServer,
) -> None:
    server = make_server()
    kept: list[Connection] = []

    @server.route("/events")
    async def events(connection: Connection) -> None:
        kept.append(connection)
        await connection.send("one")

    @server.endpoint("/page")
    async def page(request: object) -> Response:
        for use in (kept[0].send("smuggled"), kept[0].comment("smuggled"), kept[0].start()):
            with pytest.raises(trio.ClosedResourceError):
                await use
        with pytest.raises(trio.ClosedResourceError):
            await kept[0].subscribe("topic")
        kept[0].close()
        # Not even by what is behind it.
        transport = kept[0]._stream.transport
        assert not transport.send_nowait(b"smuggled", 1, trio.current_time())
        await transport.aclose(abort=True)
        return Response("the page")

    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/events")
        assert len(await client.rest()) == 1
        counts = kept[0].events_sent, kept[0].bytes_sent, kept[0].peer
        assert await client.sized_body(await client.get("/page")) == b"the page"
        await client.get("/events")
        assert len(await client.rest()) == 1
        assert counts[:2] <= (kept[0].events_sent, kept[0].bytes_sent)
        assert kept[0].peer == counts[2]
        assert kept[1].events_sent == 1


@pytest.mark.parametrize("after_app", [True, False])
async def test_a_stream_after_an_app_has_a_handle_that_the_app_never_knew(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, after_app: bool
) -> None:
    accepted: list[SocketTransport] = []

    class Recorded(SocketTransport):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            accepted.append(self)

    monkeypatch.setattr(trio_sse._server.serving, "SocketTransport", Recorded)
    server = make_server(app=ignore)
    states: list[HandleState] = []

    @server.route("/events")
    async def events(connection: Connection) -> None:
        states.append(accepted[0].state)
        await connection.send("one")

    async with on_sockets(server) as serving, await serving.connect() as client:
        if after_app:
            assert await client.sized_body(await client.get("/")) == b"ignored"
        await client.get("/events")
        assert len(await client.rest()) == 1
    assert states == [HandleState.MOVED if after_app else HandleState.OWNED]


# Interruptions at every checkpoint


async def two_events(connection: Connection) -> None:
    await connection.send("one")
    await trio.lowlevel.checkpoint()
    await connection.send("two")


async def nothing(connection: Connection) -> None:
    await trio.lowlevel.checkpoint()


class Cancellable:
    """An app whose calls a test can cancel, as middleware might."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.calls: set[trio.CancelScope] = set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        with trio.CancelScope() as call:
            self.calls.add(call)
            try:
                await self._app(scope, receive, send)
            finally:
                self.calls.discard(call)

    def cancel(self) -> None:
        for call in self.calls:
            call.cancel()


async def ask(client: Client) -> bool:
    """Ask for the stream and read until the end; return whether the answer is complete."""
    await client.send(GET)
    try:
        head = await client.head()
        if head.get("Content-Length") is not None:
            await client.sized_body(head)
            return False  # the stream had ended before it could begin
        await client.rest()
    except (AssertionError, trio.BrokenResourceError):
        return False  # it was cut
    return head.status == 200 and client.is_ended


async def ask_twice(client: Client) -> bool:
    """Ask on one connection; the second request is answered while the first one's call goes on."""
    return await ask(client) and await ask(client)


async def ask_for_websocket(client: Client) -> bool:
    """Open a WebSocket, have a message echoed, and read until the end; return whether all of it happened."""
    websocket = WebSocket(client)
    try:
        if (await websocket.open("/")).status != 101:
            return False
        await websocket.send(TEXT, b"message")
        frames = [await websocket.frame()]
        if frames == [Frame(TEXT, b"message")]:
            frames.append(await websocket.frame())
        await client.send(encode_close())
        is_closed = await websocket.is_closed()
        return is_closed and frames == [Frame(TEXT, b"message"), Frame(CLOSE, b"\x03\xe8")]
    except (AssertionError, trio.BrokenResourceError):
        return False  # it was cut


@dataclass
class Subject:
    """A server that answers `GET /` with a stream, or what it is asked for."""

    server: Server
    app: Cancellable | None = None
    ask: Callable[[Client], Awaitable[bool]] = ask
    has_shown_all: Callable[[], bool] = lambda: True

    def end_streams(self) -> None:
        for serving in self.server._manager.serve_scopes:
            for stream in serving.streams.values():
                stream.end(EndReason.SERVER_SHUTDOWN)

    def check_nothing_is_left(self) -> None:
        assert self.server.statistics().open_streams == 0
        assert self.server._admission.is_empty
        assert not any(len(s.disconnects or ()) for s in self.server._manager.serve_scopes)
        assert not any(len(s.keepalives) for s in self.server._manager.serve_scopes)


def native(no_leak: LeakCheck) -> Subject:
    server = no_leak.watch(Server())
    server.route("/")(two_events)
    return Subject(server)


class AddsField(BaseHTTPMiddleware):
    """Runs the app in a task of its own, and sends what the app sends from another one."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> StarletteResponse:
        response = await call_next(request)
        response.headers["X-Added"] = "yes"
        return response


def quart_of(no_leak: LeakCheck, handler: Any, middleware: Callable[[Any], Any] = lambda app: app) -> Subject:
    app = QuartTrio(__name__)
    sse = QuartSSE(app)
    sse.route("/")(handler)

    @app.after_request
    async def take_a_moment(response: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return response

    cancellable = Cancellable(middleware(app))
    return Subject(no_leak.watch(Server(cancellable, hub=no_leak.watch_hub(sse.hub))), cancellable)


def quart(no_leak: LeakCheck) -> Subject:
    return quart_of(no_leak, two_events)


def quart_under_middleware(no_leak: LeakCheck) -> Subject:
    return quart_of(no_leak, two_events, AddsField)


def quart_that_sends_nothing(no_leak: LeakCheck) -> Subject:
    return quart_of(no_leak, nothing)


def inline(no_leak: LeakCheck) -> Subject:
    hub = no_leak.watch_hub(Hub())
    endpoint: Any = event_stream(two_events, hub=hub)
    cancellable = Cancellable(http_only(endpoint))
    return Subject(no_leak.watch(Server(cancellable, hub=hub)), cancellable)


def websocket(no_leak: LeakCheck) -> Subject:
    @websocket_only
    async def echo_once(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await accept(receive, send)
        message = await receive()
        if message["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})

    cancellable = Cancellable(echo_once)
    return Subject(no_leak.watch(Server(cancellable)), cancellable, ask_for_websocket)


def background(no_leak: LeakCheck) -> Subject:
    """Return an app whose calls go on after their responses, until other tasks have their connections."""
    running = most = 0

    @http_only
    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
            await send({"type": "http.response.body"})
            for _ in range(30):  # as long as another task takes to have answered the next request
                await trio.lowlevel.checkpoint()
        finally:
            running -= 1

    cancellable = Cancellable(app)
    return Subject(no_leak.watch(Server(cancellable)), cancellable, ask_twice, lambda: most == 2)


Connect = Callable[[], Awaitable[Client]]


@asynccontextmanager
async def served(server: Server, where: str, contexts: Contexts) -> AsyncIterator[Connect]:
    if where == "memory":
        async with trio.open_nursery() as nursery:
            connect_to = await nursery.start(server.serve_in_memory)

            async def connect() -> Client:
                ours, theirs = memory_stream_pair()
                connect_to(theirs, "test")
                return Client(ours)

            yield connect
            nursery.cancel_scope.cancel()
        return
    tls = (contexts.server, contexts.client) if where == "tls" else (None, None)
    async with on_sockets(server, server_tls=tls[0], client_tls=tls[1]) as serving:
        yield serving.connect


MAKERS = (native, quart, quart_that_sends_nothing, quart_under_middleware, inline, websocket, background)


@pytest.mark.integration  # all of them take 4 s
@pytest.mark.parametrize("what", ["the stream ends", "the client leaves", "the call is cancelled"])
@pytest.mark.parametrize(
    ("make", "where"),
    [
        (make, where)
        for make in (
            native,
            quart,
            quart_that_sends_nothing,
            quart_under_middleware,
            inline,
            websocket,
            background,
        )
        for where in ("sockets", "memory")
    ]
    + [(quart, "tls"), (websocket, "tls")],
)
async def test_an_interruption_anywhere_leaves_nothing_and_the_next_request_works(
    no_leak: LeakCheck,
    contexts: Contexts,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[LeakCheck], Subject],
    where: str,
    what: str,
) -> None:
    monkeypatch.setattr("trio_sse._app.websocket_call._MOMENT", 0.0)  # a failing send would outlast the check
    if make is background:
        monkeypatch.setattr("trio_sse._app.background._MOMENT", 0.0)  # other tasks take over at once
    subject = make(no_leak)
    own = trio.lowlevel.current_task()
    if subject.app is None and what == "the call is cancelled":
        return

    async with served(subject.server, where, contexts) as connect:
        async with await connect() as client:
            assert await subject.ask(client)
        assert where != "memory" or subject.has_shown_all()  # bytes may be late on sockets
        await wait_all_tasks_blocked(0.002)
        tasks, descriptors = living_tasks(), open_descriptors()

        async def scenario(interruption: Interruption) -> None:
            client = await connect()
            with trio.CancelScope() as visit:
                interrupt = {
                    "the stream ends": subject.end_streams,
                    "the client leaves": visit.cancel,
                    "the call is cancelled": subject.app.cancel if subject.app else visit.cancel,
                }[what]
                interruption.begin(interrupt, lambda task: task is not own)
                with trio.fail_after(SECONDS):
                    await subject.ask(client)
            interruption.end()
            await trio.aclose_forcefully(client.stream)
            async with await connect() as following:
                assert await subject.ask(following)
            await wait_all_tasks_blocked(0.002)
            subject.check_nothing_is_left()
            assert not living_tasks() - tasks
            assert open_descriptors() == descriptors

        assert await interrupt_at_each_checkpoint(scenario) > 3


@pytest.mark.integration  # all of them take 2 s
@pytest.mark.parametrize("make", [native, quart, quart_that_sends_nothing, inline, websocket, background])
@pytest.mark.parametrize("where", ["sockets", "memory"])
async def test_a_server_that_is_cancelled_anywhere_leaves_nothing(
    no_leak: LeakCheck,
    contexts: Contexts,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[LeakCheck], Subject],
    where: str,
) -> None:
    if make is background:
        monkeypatch.setattr("trio_sse._app.background._MOMENT", 0.0)
    own = trio.lowlevel.current_task()

    async def scenario(interruption: Interruption) -> None:
        tasks, descriptors = living_tasks(), open_descriptors()
        subject = make(no_leak)
        client: Client | None = None
        with trio.CancelScope() as scope:
            async with served(subject.server, where, contexts) as connect:
                client = await connect()
                interruption.begin(scope.cancel, lambda task: task is not own)
                await subject.ask(client)
        interruption.end()
        assert client is not None
        await trio.aclose_forcefully(client.stream)
        await wait_all_tasks_blocked()
        subject.check_nothing_is_left()
        assert not living_tasks() - tasks
        assert open_descriptors() == descriptors

    assert await interrupt_at_each_checkpoint(scenario) > 3
