"""Chat with rooms, presence and history, by WebSocket or by stream and POST: `python -m examples.chat`."""

from __future__ import annotations

from collections import Counter

import trio

from examples.pages import add_pages, serve
from trio_sse import Connection, HTTPException, Request, Response, Server
from trio_sse.websocket import WebSocketConnection, serve_topics

ROOMS = ("lobby", "garden", "cellar")

server = Server()
topics = [f"{kind}/{room}" for kind in ("rooms", "here") for room in ROOMS]
people = {room: Counter[str]() for room in ROOMS}
here = {room: server.hub.state(f"here/{room}", []) for room in ROOMS}


async def change_presence(room: str, name: str, change: int) -> None:
    """Count a person's connections to a room, and publish who is here."""
    people[room][name] += change
    await here[room].set(sorted(+people[room]))


def name_of(connection: Connection | WebSocketConnection, room: str) -> str:
    """Return the name in the request's query."""
    name = connection.request.query.get("name", "").strip()[:20]
    if room not in ROOMS or not name:
        raise HTTPException(404, f"the rooms are {', '.join(ROOMS)}, and a name is required")
    return name


@server.websocket("/ws/{room}")
async def talk(websocket: WebSocketConnection, room: str) -> None:
    name = name_of(websocket, room)
    await change_presence(room, name, 1)
    try:
        await serve_topics(websocket, topics=topics, publish=[f"rooms/{room}"])
    finally:
        with trio.CancelScope(shield=True):
            await change_presence(room, name, -1)


@server.route("/rooms/{room}")
async def listen(connection: Connection, room: str) -> None:
    name = name_of(connection, room)
    await change_presence(room, name, 1)
    hub, shown = server.hub, (f"rooms/{room}", f"here/{room}")
    cursor = connection.last_event_id or hub.first_event_id_of(*shown)
    try:
        async with hub.subscribe(*shown, last_event_id=cursor) as events:
            await connection.forward(events)
    finally:
        with trio.CancelScope(shield=True):
            await change_presence(room, name, -1)


@server.endpoint("/rooms/{room}", methods=["POST"])
async def say(request: Request, room: str) -> Response:
    if room not in ROOMS:
        raise HTTPException(404)
    await server.hub.publish(f"rooms/{room}", request.body.decode(errors="replace"), event="said")
    return Response(status=204)


@server.endpoint("/history")
async def history(request: Request) -> Response:
    return Response(server.hub.first_event_id, headers={"Cache-Control": "no-store"})


if __name__ == "__main__":
    add_pages(server, "chat.html")
    trio.run(serve, server)
