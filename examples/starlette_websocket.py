"""A Starlette app with a WebSocket of its own: `python -m examples.starlette_websocket`.

A chat room. The server needs nothing for it: `Server(app)` serves whatever WebSockets the app has. A client
that is slow makes nobody else wait.
"""

import os

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from trio_sse import Server

PORT = int(os.environ.get("PORT", "8000"))

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Chat</title>
<form><input placeholder="say something" autofocus></form>
<pre></pre>
<script>
  const name = prompt("Your name?") || "";
  const url = `ws://${location.host}/chat?name=${encodeURIComponent(name)}`;
  const socket = new WebSocket(url.replace("ws", location.protocol === "https:" ? "wss" : "ws"));
  const said = document.querySelector("pre");
  socket.onmessage = event => { said.textContent += event.data + "\\n"; };
  socket.onclose = event => { said.textContent += `closed: ${event.code} ${event.reason}\\n`; };
  document.querySelector("form").onsubmit = event => {
    event.preventDefault();
    socket.send(event.target[0].value);
    event.target.reset();
  };
</script></html>"""

members: dict[WebSocket, trio.MemorySendChannel[str]] = {}


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE)


def say(text: str) -> None:
    for websocket, channel in list(members.items()):
        try:
            channel.send_nowait(text)
        except trio.WouldBlock:  # it is too slow to follow
            members.pop(websocket).close()


async def chat(websocket: WebSocket) -> None:
    name = websocket.query_params.get("name")
    if not name:
        raise HTTPException(401, "who are you?")  # the answer to the handshake
    await websocket.accept()
    channel, texts = trio.open_memory_channel[str](100)
    members[websocket] = channel
    say(f"{name} is here")
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, websocket, texts)
            async for text in websocket.iter_text():  # until the client has closed
                say(f"{name}: {text}")
            nursery.cancel_scope.cancel()
    finally:
        members.pop(websocket, None)
        say(f"{name} has left")


async def send_all(websocket: WebSocket, texts: trio.MemoryReceiveChannel[str]) -> None:
    async for text in texts:
        await websocket.send_text(text)
    await websocket.close(1008, "too slow")  # `say` has closed the channel


app = Starlette(routes=[Route("/", page), WebSocketRoute("/chat", chat)])


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(Server(app).serve, "127.0.0.1", PORT)
        print(f"http://127.0.0.1:{addresses[0][1]}/", flush=True)


if __name__ == "__main__":
    trio.run(main)
