"""Send events from the handler itself: `python -m examples.countdown`.

Each client has its own countdown. The stream is complete when the handler returns. A client that loses its
connection before that reconnects with the id of the last number it received, and continues from there.
"""

import os

import trio

from trio_sse import Connection, Server

PORT = int(os.environ.get("PORT", "8000"))

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
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"curl -N http://127.0.0.1:{addresses[0][1]}/countdown/5", flush=True)


if __name__ == "__main__":
    trio.run(main)
