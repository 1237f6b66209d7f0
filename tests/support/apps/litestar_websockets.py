"""A Litestar app of WebSockets: handlers, a refusal, and a listener."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, WebSocket, websocket
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import websocket_listener


@websocket("/chat/{room:int}")
async def chat(socket: WebSocket[Any, Any, Any]) -> None:
    room = socket.path_params["room"]
    await socket.accept(subprotocols="chat", headers={"x-room": str(room)})
    async for text in socket.iter_data("text"):
        await socket.send_json({"said": text, "room": room})


@websocket("/private")
async def private(socket: WebSocket[Any, Any, Any]) -> None:
    raise NotAuthorizedException("who are you?")


@websocket("/closes")
async def closes(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.close(code=4000, reason="enough")


@websocket_listener("/add")
async def add(data: list[int]) -> dict[str, int]:
    return {"sum": sum(data)}


app = Litestar([chat, private, closes, add], logging_config=None)
