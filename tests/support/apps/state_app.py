"""A server with a state and a presence list, for several workers."""

import os

from trio_sse import Connection, Request, Response, Server

server = Server()
votes = server.hub.state("votes", {"count": 0})
room = server.hub.presence("room", ttl=2)


@server.route("/votes")
async def show(connection: Connection) -> None:
    await connection.subscribe("votes")


@server.route("/room/{name}")
async def enter(connection: Connection, name: str) -> None:
    async with room.join(name, os.getpid()):
        await connection.subscribe("room")


@server.route("/mine/{user}")
async def show_own(connection: Connection, user: str) -> None:
    connection.identity = user
    await connection.subscribe("mine")


@server.endpoint("/mine/{user}", methods=["POST"])
async def revoke(request: Request, user: str) -> Response:
    return Response(str(await server.hub.revoke(user)))


@server.endpoint("/votes", methods=["POST"])
async def vote(request: Request) -> Response:
    await votes.update(lambda value: {"count": value["count"] + 1})
    return Response(status=204)


@server.endpoint("/members")
async def members(request: Request) -> Response:
    return Response(" ".join(sorted(room.members)))


@server.endpoint("/pid")
async def pid(request: Request) -> Response:
    return Response(str(os.getpid()))


@server.endpoint("/die", methods=["POST"])
async def die(request: Request) -> Response:
    os.abort()
