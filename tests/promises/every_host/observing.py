"""What several of these files do with a host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_sse import ServerSentEvent

from ...support.client import Client
from ...support.hosts import Host
from ...support.waiting import until

NEVER = 3600.0  # for a keepalive: none notices meanwhile that a client has left


def numbers_in(events: list[ServerSentEvent]) -> list[int]:
    """Return the numbers that events carry."""
    return [int(str(event.data)) for event in events]


async def until_longer(published: list[int], count: int) -> None:
    """Wait until this many more have been published."""
    wanted = len(published) + count
    await until(lambda: len(published) >= wanted)


@asynccontextmanager
async def publishing(host: Host, size: int = 0) -> AsyncIterator[list[int]]:
    """Publish 1, 2, 3 and so on, padded to `size`, with others' events between; give what was published."""
    published: list[int] = []

    async def publish() -> None:
        while True:
            number = len(published) + 1
            await host.hub.publish("live", f"{number}".ljust(size))
            published.append(number)
            await host.hub.publish("other", "not for it")
            if number % 10 == 0:
                await trio.sleep(0.002)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        yield published
        nursery.cancel_scope.cancel()


async def answer_of(host: Host, path: str, *lines: str, method: str = "GET") -> tuple[Any, bytes]:
    """Return the head and the body of a response."""
    async with await host.connect() as connection:
        if isinstance(connection, Client):
            head = await connection.get(path, *lines, method=method)
            return head, b"" if method == "HEAD" else await connection.whole()
        stream = await connection.request(method, path, *lines)
        return await stream.wait_head(), await stream.whole()


def values_of(head: Any, name: str) -> list[str]:
    """Return the values of all fields of a name."""
    return [value for own, value in head.fields if own.lower() == name]
