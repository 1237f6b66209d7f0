"""A server and an app whose streams work in threads, or block the event loop, without an end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import trio

from trio_sse import Connection, Server

server = Server(drain_timeout=float(os.environ["DRAIN_TIMEOUT"]))


def work() -> None:
    """Read what nobody writes."""
    Path(os.environ["FIFO"]).read_text()


@server.route("/thread")
async def in_thread(connection: Connection) -> None:
    """Wait for a thread that cannot be cancelled."""
    await connection.send(os.getpid())
    await trio.to_thread.run_sync(work)


@server.route("/block")
async def block(connection: Connection) -> None:
    """Block the event loop."""
    await connection.send(os.getpid())
    work()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer, and wait for a thread."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun\n\n", "more_body": True})
    await trio.to_thread.run_sync(work)
