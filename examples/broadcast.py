"""Broadcast one topic to every client: `python -m examples.broadcast`."""

import os
import time

import trio

from trio_sse import Connection, Server

PORT = int(os.environ.get("PORT", "8000"))

server = Server()


@server.route("/clock")
async def clock(connection: Connection) -> None:
    await connection.subscribe("clock")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"curl -N http://127.0.0.1:{addresses[0][1]}/clock", flush=True)
        while True:
            await server.hub.publish("clock", {"time": time.time()}, event="tick")
            await trio.sleep(1)


if __name__ == "__main__":
    trio.run(main)
