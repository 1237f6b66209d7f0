"""A server without a `main`, for the program: `trio-sse serve examples.served:server`.

trio-sse tail http://127.0.0.1:8000/rooms/one
curl -d 'hello' http://127.0.0.1:8000/rooms/one
"""

from trio_sse import Connection, HTTPException, Request, Response, Server

server = Server()


@server.route("/rooms/{room}")
async def listen(connection: Connection, room: str) -> None:
    await connection.subscribe(f"rooms/{room}")


@server.endpoint("/rooms/{room}", methods=["POST"])
async def say(request: Request, room: str) -> Response:
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        raise HTTPException(400, "send text as UTF-8") from None
    await server.hub.publish(f"rooms/{room}", text, event="message-in-room")
    return Response(status=204)
