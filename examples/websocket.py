"""Send topics by WebSocket, and echo messages: `python -m examples.websocket`."""

from __future__ import annotations

import os
import time

import trio

from trio_sse import Server
from trio_sse.websocket import WebSocketConnection, serve_topics

PORT = int(os.environ.get("PORT", "8000"))

server = Server()


@server.websocket("/echo")
async def echo(websocket: WebSocketConnection) -> None:
    async for message in websocket:
        if isinstance(message, bytes):
            await websocket.send_bytes(message)
        else:
            await websocket.send_text(message)


@server.websocket("/ws")
async def ws(websocket: WebSocketConnection) -> None:
    await serve_topics(websocket, topics=["clock", "chat"], publish=["chat"])


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"http://127.0.0.1:{addresses[0][1]}", flush=True)
        while True:
            await server.hub.publish("clock", {"time": time.time()}, event="tick")
            await trio.sleep(1)


if __name__ == "__main__":
    trio.run(main)
