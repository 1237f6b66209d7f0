"""A stream that its handler drives: `python examples/countdown.py`.

Each client has its own countdown. The stream ends properly when the handler returns; a client that was
cut off on the way comes back with the id of the last number it saw, and goes on from there.
"""

import os

import trio

from trio_sse import Connection, Server

server = Server()


@server.route("/countdown/{start:int}")
async def countdown(connection: Connection, start: int) -> None:
    if connection.last_event_id is not None and connection.last_event_id.isdecimal():
        start = int(connection.last_event_id) - 1
    for n in range(start, 0, -1):
        await connection.send({"n": n}, event="tick", id=str(n))
        await trio.sleep(1)
    await connection.send("lift-off", event="done")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", int(os.environ.get("PORT", "8000")))
        print(f"curl -N http://127.0.0.1:{addresses[0][1]}/countdown/5", flush=True)


if __name__ == "__main__":
    trio.run(main)
