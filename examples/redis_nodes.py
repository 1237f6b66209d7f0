"""Two nodes on one Redis: `python examples/redis_nodes.py`, with REDIS_URL if it isn't on this machine.

Each node is a server with a hub of its own, as it would be in another process or on another machine. What is
published on the first is seen on both: `trio-sse tail http://127.0.0.1:8000/numbers`, and the same at the
second's port. Stop the one that you follow, and go on at the other from the id that you have.
"""

import os

import trio

from trio_sse import Connection, Hub, LogUnavailable, Server
from trio_sse.redis import RedisLog

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")


def make_node() -> Server:
    node = Server(hub=Hub(log=RedisLog(REDIS_URL, prefix="numbers")))

    @node.route("/numbers")
    async def numbers(connection: Connection) -> None:
        await connection.subscribe("numbers")

    return node


async def count(hub: Hub) -> None:
    number = 0
    while True:
        number += 1
        try:
            await hub.publish("numbers", {"number": number})
        except LogUnavailable as error:
            print(f"number {number}: {error}", flush=True)
        await trio.sleep(1)


async def main() -> None:
    port = int(os.environ.get("PORT", "8000"))
    nodes = [make_node(), make_node()]
    async with trio.open_nursery() as nursery:
        for offset, node in enumerate(nodes):
            addresses = await nursery.start(node.serve, "127.0.0.1", port and port + offset)
            print(f"http://127.0.0.1:{addresses[0][1]}/numbers", flush=True)
        nursery.start_soon(count, nodes[0].hub)


if __name__ == "__main__":
    trio.run(main)
