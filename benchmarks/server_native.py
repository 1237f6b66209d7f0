"""trio_sse's own server as a process of its own, with its defaults: the subject of all benchmarks.

`python -m benchmarks.server_native` runs it by hand; `_control.py` says what to type.
"""

from __future__ import annotations

import trio

from benchmarks._control import obey_commands
from trio_sse import Connection, Hub, Server

DATA = "x" * 100

hub = Hub()
server = Server(hub=hub, max_connections=20_000)


@server.route("/updates")
async def updates(connection: Connection) -> None:
    await connection.subscribe("live")


async def publish() -> None:
    await hub.publish("live", DATA)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", 0)
        await obey_commands(addresses[0][1], publish)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
