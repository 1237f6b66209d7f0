"""Run two nodes that share a log on Redis: `python -m examples.redis_nodes`.

Set REDIS_URL if Redis runs on another machine. Each node is a server with its own hub, as it would be in
another process or on another machine. Both nodes send what is published on the first one. Follow one with
`trio-sse tail http://127.0.0.1:8000/numbers`, and the other on port 8001. The ids are the same on both, so a
client can resume on either node.
"""

import os

import trio

from trio_sse import Connection, Hub, LogUnavailable, Server
from trio_sse.redis import RedisLog

PORT = int(os.environ.get("PORT", "8000"))
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
    nodes = [make_node(), make_node()]
    async with trio.open_nursery() as nursery:
        for offset, node in enumerate(nodes):
            addresses = await nursery.start(node.serve, "127.0.0.1", PORT and PORT + offset)
            print(f"http://127.0.0.1:{addresses[0][1]}/numbers", flush=True)
        nursery.start_soon(count, nodes[0].hub)


if __name__ == "__main__":
    trio.run(main)
