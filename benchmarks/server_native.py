"""trio_sse's own server as a process of its own, with its defaults: the subject of all benchmarks.

`python -m benchmarks.server_native` runs it by hand; `_control.py` says what to type.
"""

from __future__ import annotations

import trio

from benchmarks._control import DATA, serve_and_obey
from trio_sse import Connection, Hub, Server

hub = Hub()
server = Server(hub=hub, max_connections=20_000)


@server.route("/updates")
async def updates(connection: Connection) -> None:
    await connection.subscribe("live")


async def publish() -> None:
    await hub.publish("live", DATA)


async def start(nursery: trio.Nursery) -> int:
    addresses = await nursery.start(server.serve, "127.0.0.1", 0)
    return int(addresses[0][1])


if __name__ == "__main__":
    trio.run(serve_and_obey, start, publish)
