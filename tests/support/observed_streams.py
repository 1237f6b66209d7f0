"""Handlers of streams, and what is seen of their lives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from trio_sse import Connection, EndReason, Server

from .client import Client
from .serving import in_memory

Handler = Callable[[Connection], Awaitable[None]]


async def forwarding(connection: Connection) -> None:
    await connection.subscribe("t")


async def sleeping(connection: Connection) -> None:
    await trio.sleep_forever()


BOTH_MODES = pytest.mark.parametrize("handler", [forwarding, sleeping])


class Life:
    """How a stream ended, as its handler, hook and log saw it."""

    def __init__(self) -> None:
        self.in_finally: list[EndReason | None] = []
        self.in_hook: list[EndReason | None] = []
        self.durations: list[float] = []


def observe(server: Server, handler: Handler = sleeping) -> Life:
    """Serve `/` with a handler, and record how its streams end."""
    life = Life()

    @server.route("/")
    async def observed(connection: Connection) -> None:
        try:
            await handler(connection)
        finally:
            life.in_finally.append(connection.end_reason)

    @server.on_disconnect
    def disconnected(connection: Connection) -> None:
        life.in_hook.append(connection.end_reason)
        life.durations.append(connection.duration)

    return life


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines that the log has of the streams' lives."""
    lines = [record.getMessage() for record in caplog.records if record.name == "trio_sse.access"]
    return [line for line in lines if line.startswith(("open ", "close "))]


async def run_one(server: Server, *, cancel: bool = False) -> Client:
    """Open `/` in memory and read to its end, or until the server is cancelled."""
    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/")
        if not cancel:
            await client.rest()
    return client
