"""A FastAPI app of WebSockets: with a dependency, a validated path, and refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketException

app = FastAPI()

#: The tokens of connections whose dependency has ended.
released: list[str] = []


async def user(ws: WebSocket, token: str = "") -> AsyncIterator[str]:
    if not token:
        raise WebSocketException(code=1008, reason="no token")
    if token == "wrong":
        raise HTTPException(401, "wrong token")
    yield token
    released.append(token)


@app.websocket("/items/{item}")
async def items(ws: WebSocket, item: int, name: str = Depends(user)) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(f"{name} {item} {text}")


@app.websocket("/late")
async def late(ws: WebSocket) -> None:
    await ws.accept()
    raise WebSocketException(code=1008, reason="after all")
