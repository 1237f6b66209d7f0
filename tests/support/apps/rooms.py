"""Rooms, for the console to show."""

from __future__ import annotations

from trio_sse import Connection, Server

server = Server(reconnect_spread=1)


@server.route("/rooms/{room}")
async def rooms(connection: Connection, room: str) -> None:
    """Forward what is said in a room."""
    await connection.subscribe(f"rooms/{room}")
