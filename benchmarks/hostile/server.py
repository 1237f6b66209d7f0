"""The server under attack: `python -m benchmarks.hostile.server`.

It publishes numbered events at a steady pace, and answers commands on stdin:

statistics   answer with what it holds: tasks, descriptors, streams and so on
finish       publish no more; answer with the last number
refused      answer with the numbers of the events that its log has not acknowledged
quit         exit, as does the end of stdin
"""

from __future__ import annotations

import argparse
import os
import ssl
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, final

import trio

from benchmarks.harness.control import answer, lines
from trio_sse import Connection, Hub, LogUnavailable, Request, Response, Server, tune_garbage_collector
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog
from trio_sse.websocket import WebSocketConnection

#: How often an event is published, and how often a large one.
INTERVAL = 0.2
_BULK_INTERVAL = 0.05

#: Every deadline of the server that can be chosen; the others are ten seconds anyway.
DEADLINE = 10.0

_LARGE = 1024 * 1024


@final
class Publisher:
    """Publishes events whose data are their number, and the time at which they were due."""

    def __init__(self, hub: Hub) -> None:
        self.last = 0
        self.refused: list[int] = []
        self._hub = hub
        self._scope = trio.CancelScope()
        self._has_finished = trio.Event()

    async def run(self) -> None:
        """Publish until `finish`."""
        due_at = trio.current_time()
        with self._scope:
            while True:
                await trio.sleep_until(due_at)
                due_ns = time.monotonic_ns() - round((trio.current_time() - due_at) * 1e9)
                self.last += 1
                with trio.CancelScope(shield=True):
                    try:
                        await self._hub.publish("live", f"{self.last} {due_ns}")
                    except LogUnavailable:
                        self.refused.append(self.last)
                # What was due while the log was away is not made up for.
                due_at = max(due_at + INTERVAL, trio.current_time() - 2 * INTERVAL)
        self._has_finished.set()

    async def finish(self) -> None:
        """Publish no more, and wait for the event that is being published."""
        self._scope.cancel()
        await self._has_finished.wait()


async def publish_bulk(hub: Hub, size: int) -> None:
    """Publish large events, as many as the hub takes."""
    data = "x" * size
    while True:
        await trio.sleep(_BULK_INTERVAL)
        try:
            await hub.publish("bulk", data)
        except LogUnavailable:
            continue


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with a large response in pieces, after the request's body was read piece by piece."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    while (message := await receive()).get("more_body", False):
        pass
    if message["type"] == "http.disconnect":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for _ in range(16):
        await send({"type": "http.response.body", "body": bytes(_LARGE // 16), "more_body": True})
    await send({"type": "http.response.body"})


def make_server(hub: Hub, *, max_pending_bytes: int) -> Server:
    """Return a server with a route of each kind."""
    server = Server(
        app,
        hub=hub,
        write_timeout=DEADLINE,
        request_timeout=DEADLINE,
        body_timeout=DEADLINE,
        keep_alive=DEADLINE,
        websocket_ping_timeout=DEADLINE,
        max_pending_bytes=max_pending_bytes,
        http2_cleartext=True,
    )

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    @server.route("/bulk")
    async def bulk(connection: Connection) -> None:
        await connection.subscribe("bulk")

    @server.websocket("/socket")
    async def socket(connection: WebSocketConnection) -> None:
        await connection.subscribe("bulk")

    @server.endpoint("/upload", methods=["POST"])
    async def upload(request: Request) -> Response:
        return Response(f"{len(request.body)}")

    @server.endpoint("/large")
    async def large(request: Request) -> Response:
        return Response(os.urandom(8).hex() + "x" * _LARGE)  # no two share it

    return server


async def serve(server: Server, tls: ssl.SSLContext | None, bulk: int) -> None:
    """Serve until `quit`."""
    publisher = Publisher(server.hub)
    async with trio.open_nursery() as nursery:
        start = partial(server.serve, ssl_context=tls)
        addresses = await nursery.start(start, "0.0.0.0", 0)
        nursery.start_soon(publisher.run)
        if bulk:
            nursery.start_soon(publish_bulk, server.hub, bulk)
        answer("listening", port=addresses[0][1], pid=os.getpid())
        await _obey(server, publisher, lines())
        nursery.cancel_scope.cancel()


async def _obey(server: Server, publisher: Publisher, commands: AsyncIterator[str]) -> None:
    async for line in commands:
        match line:
            case "statistics":
                statistics = server.statistics()
                answer(
                    "statistics",
                    tasks=trio.lowlevel.current_statistics().tasks_living,
                    descriptors=len(os.listdir("/proc/self/fd")) - 1,
                    streams=statistics.open_streams,
                    subscriptions=statistics.hub.subscriptions,
                    pending_bytes=statistics.pending_bytes,
                    turned_away=statistics.turned_away,
                    longest_turn=statistics.longest_loop_turn,
                )
            case "finish":
                await publisher.finish()
                answer("finish", last=publisher.last)
            case "refused":
                answer("refused", **{f"{number}": number for number in publisher.refused})
            case _:
                return


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--log", default="", help="redis://... or the path of an SQLite file")
    parser.add_argument("--bulk", type=int, default=0, help="the bytes of each large event; none by default")
    parser.add_argument("--pending", type=int, default=256, help="MiB that may wait for slow readers")
    arguments = parser.parse_args()
    tls = None
    if arguments.tls is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*arguments.tls)
    tune_garbage_collector()
    hub = Hub()
    if arguments.log.startswith("redis:"):
        hub = Hub(log=RedisLog(arguments.log))
    elif arguments.log:
        hub = Hub(log=SQLiteLog(arguments.log))
    server = make_server(hub, max_pending_bytes=arguments.pending * 1024 * 1024)
    trio.run(serve, server, tls, arguments.bulk)


if __name__ == "__main__":
    main()
