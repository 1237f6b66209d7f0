"""The server that is soaked: `python -m benchmarks.soak.server`; its commands are those of `obey`.

A second port has the same routes with a short maximum duration.
"""

from __future__ import annotations

import gc
import itertools
import os
import resource
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import trio

from benchmarks.harness.control import answer, lines
from benchmarks.soak.crowds import join_a_crowd, visit_topics
from trio_sse import Connection, Hub, Request, Response, Run, Runs, Server, tune_garbage_collector
from trio_sse.asgi import ASGIApp, event_stream
from trio_sse.websocket import WebSocketConnection

#: So long is a stream of the second port open.
SHORT_SECONDS = 1.0

_REVOKED_AFTER = 0.02
_PUBLISH_INTERVAL = 0.1
_RUN_TTL = 1.0
_EVENT = "x" * 100

# The hub remembers the newest 10,000 that were revoked. They would look like a leak until then.
_IDENTITIES = 500

_names = itertools.count()


def make_server(hub: Hub, runs: Runs, revoked: trio.MemorySendChannel[str], max_duration: float) -> Server:
    """Return a server with a route of each kind."""
    server = Server(
        _make_app(hub, revoked, max_duration), hub=hub, max_duration=max_duration, http2_cleartext=True
    )

    async def follow(connection: Connection) -> None:
        _identify(connection, revoked)
        await connection.send(_EVENT)
        await connection.subscribe("live")

    server.route("/stream")(follow)

    @server.websocket("/socket")
    async def socket(connection: WebSocketConnection) -> None:
        _identify(connection, revoked)
        await connection.send_text(_EVENT)
        await connection.subscribe("live")

    @server.endpoint("/upload", methods=["POST"])
    async def upload(request: Request) -> Response:
        return Response(f"{len(request.body)}")

    @server.route("/run", methods=["POST"])
    async def run(connection: Connection) -> None:
        _identify(connection, revoked)
        view = await runs.start(_write, _EVENT)
        await view.stream(connection)

    return server


async def _write(run: Run, text: str) -> None:
    for piece in range(0, len(text), 25):
        await run.append(text[piece : piece + 25])
        await trio.sleep(0.05)


def _identify(connection: Connection | WebSocketConnection, revoked: trio.MemorySendChannel[str]) -> None:
    if "revoke" in connection.request.query:
        connection.identity = f"somebody {next(_names) % _IDENTITIES}"
        revoked.send_nowait(connection.identity)


async def revoke_all(hub: Hub, identities: trio.MemoryReceiveChannel[str]) -> None:
    """Revoke identities, each a moment after it has come."""

    async def revoke(identity: str) -> None:
        await trio.sleep(_REVOKED_AFTER)
        await hub.revoke(identity, reconnect=False)

    async with trio.open_nursery() as nursery:
        async for identity in identities:
            nursery.start_soon(revoke, identity)


def _make_app(hub: Hub, revoked: trio.MemorySendChannel[str], max_duration: float) -> ASGIApp:
    """Return an app that has an event stream, a response in parts, and a Quart app if that is wanted."""

    async def follow(connection: Connection) -> None:
        _identify(connection, revoked)
        await connection.send(_EVENT)
        await connection.subscribe("live")

    stream = event_stream(follow, hub=hub, max_duration=max_duration)
    quart = _make_quart(hub, follow, max_duration) if "--quart" in sys.argv else None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await (_lifespan if quart is None else quart)(scope, receive, send)
        elif scope["path"] == "/events":
            await stream(scope, receive, send)
        elif scope["path"] == "/quart" and quart is not None:
            await quart(scope, receive, send)
        else:
            await _parts(receive, send)

    return app


def _make_quart(hub: Hub, follow: Callable[[Connection], Awaitable[None]], max_duration: float) -> Any:
    from quart_trio import QuartTrio

    from trio_sse.quart import QuartSSE

    app = QuartTrio(__name__)
    QuartSSE(app, hub=hub, max_duration=max_duration).route("/quart")(follow)
    return app


async def _lifespan(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _parts(receive: Any, send: Any) -> None:
    """Answer in parts until the client has disconnected."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for _ in range(200):
                await send({"type": "http.response.body", "body": _EVENT.encode(), "more_body": True})
                await trio.sleep(0.02)
            await send({"type": "http.response.body"})
            nursery.cancel_scope.cancel()

        nursery.start_soon(write)
        while (await receive())["type"] != "http.disconnect":
            pass
        nursery.cancel_scope.cancel()


async def publish(hub: Hub) -> None:
    """Publish to all streams, at a steady pace."""
    while True:
        await hub.publish("live", _EVENT)
        await trio.sleep(_PUBLISH_INTERVAL)


async def obey(hub: Hub, commands: AsyncIterator[str]) -> None:
    """Run commands until `quit`.

    usage           answer with the tasks and the CPU time so far
    memory          collect garbage, and answer with the memory, descriptors, tasks and subscriptions
    topics N        subscribe to N topics of which each has one event; answer with the time of each
    crowd N M       subscribe N times to a topic that has M subscribers; answer with the time of each
    """
    async for line in commands:
        match line.split():
            case ["usage"]:
                usage = resource.getrusage(resource.RUSAGE_SELF)
                tasks = trio.lowlevel.current_statistics().tasks_living
                answer("usage", cpu_seconds=usage.ru_utime + usage.ru_stime, tasks=tasks)
            case ["memory"]:
                gc.collect()
                answer(
                    "memory",
                    own_bytes=_own_bytes(),
                    descriptors=len(os.listdir("/proc/self/fd")) - 1,
                    tasks=trio.lowlevel.current_statistics().tasks_living,
                    subscriptions=hub.statistics().subscriptions,
                )
            case ["topics", count]:
                answer("topics", **await visit_topics(hub, int(count)))
            case ["crowd", count, members]:
                answer("crowd", **await join_a_crowd(hub, int(count), int(members)))
            case _:
                return


def _own_bytes() -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:")) * 1024


async def main(tls: ssl.SSLContext) -> None:
    """Serve until `quit`, on three ports."""
    hub = Hub(history=1000)
    runs = Runs(hub, ttl=_RUN_TTL, max_runs=10_000)
    send, receive = trio.open_memory_channel[str](10_000)
    server = make_server(hub, runs, send, 3600.0)
    short = make_server(hub, runs, send, SHORT_SECONDS)
    async with trio.open_nursery() as nursery:
        ports = [
            (await nursery.start(partial(each.serve, ssl_context=context), "0.0.0.0", 0))[0][1]
            for each, context in ((server, None), (server, tls), (short, None), (short, tls))
        ]
        nursery.start_soon(publish, hub)
        nursery.start_soon(revoke_all, hub, receive)
        answer("listening", plain=ports[0], tls=ports[1], short=ports[2], short_tls=ports[3])
        await obey(hub, lines())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*sys.argv[1:3])
    tune_garbage_collector()
    trio.run(main, context)
