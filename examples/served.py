"""A server for the `trio-sse` program: `trio-sse serve examples.served:server`.

`python -m examples.served` runs it without the program. Follow a room, and publish from another terminal:

    trio-sse tail http://127.0.0.1:8000/rooms/one
    curl -d 'hello' http://127.0.0.1:8000/rooms/one
"""

import os

import trio

from trio_sse import Connection, HTTPException, Request, Response, Server

PORT = int(os.environ.get("PORT", "8000"))

server = Server()


@server.route("/rooms/{room}")
async def listen(connection: Connection, room: str) -> None:
    await connection.subscribe(f"rooms/{room}")


@server.endpoint("/rooms/{room}", methods=["POST"])
async def say(request: Request, room: str) -> Response:
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        raise HTTPException(400, "the text must be UTF-8") from None
    await server.hub.publish(f"rooms/{room}", text, event="message-in-room")
    return Response(status=204)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"trio-sse tail http://127.0.0.1:{addresses[0][1]}/rooms/one", flush=True)


if __name__ == "__main__":
    trio.run(main)
