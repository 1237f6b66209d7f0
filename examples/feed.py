"""A live feed: follow a file while it is written. `python -m examples.feed [FILE]`.

Without a file, the example makes one that grows. A new client receives the lines that are still in the log. A
client that reconnects receives the lines it missed.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import AsyncIterator

import trio

from examples.pages import add_pages, serve
from trio_sse import Connection, Server

EVENTS = ("login", "checkout", "refund", "signup", "search")

server = Server()


async def tail(path: trio.Path) -> AsyncIterator[str]:
    """Yield a file's lines as they are written. A truncated file is read again from its start."""
    position, rest = 0, b""
    while True:
        data = await path.read_bytes() if await path.exists() else b""
        if len(data) < position:
            position, rest = 0, b""
        *lines, rest = (rest + data[position:]).split(b"\n")
        position = len(data)
        for line in lines:
            yield line.decode("utf-8", "replace")
        await trio.sleep(0.2)


async def publish_lines(path: trio.Path) -> None:
    async for line in tail(path):
        await server.hub.publish("lines", line, event="line")


@server.route("/lines")
async def lines(connection: Connection) -> None:
    hub = server.hub
    cursor = connection.last_event_id or hub.first_event_id_of("lines")
    async with hub.subscribe("lines", last_event_id=cursor, batch=0.2) as events:
        await connection.forward(events)


async def write(path: trio.Path) -> None:
    """Stand in for the program that writes the file."""
    number = 0
    while True:
        number += 1
        async with await path.open("a") as file:
            await file.write(f"{number} {random.choice(EVENTS)} user={random.randrange(1000)}\n")
        await trio.sleep(random.expovariate(3))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = trio.Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/app.log")
        tasks = [lambda: publish_lines(path), *([] if len(sys.argv) > 1 else [lambda: write(path)])]
        await serve(server, *tasks)


if __name__ == "__main__":
    add_pages(server, "feed.html")
    trio.run(main)
