"""Small ASGI apps and requests for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from .client import Head
from .serving import InMemory

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def http_only(app: App) -> App:
    """Make an app that knows of no lifespan."""

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "no lifespan here"
        await app(scope, receive, send)

    return wrapped


async def answer(send: Send, body: bytes = b"", status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


@http_only
async def ignore(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Respond without reading the body."""
    await answer(send, b"ignored")


@http_only
async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send back each piece of the body as it arrives."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["raw_path"])]})
    goes_on = True
    while goes_on:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        goes_on = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": goes_on})


async def ask(serving: InMemory, request: bytes) -> tuple[Head, bytes, bool]:
    """Send a request; return the head, the body, and whether the server then closed the connection."""
    async with serving.connect() as client:
        await client.send(request)
        head = await client.head()
        body = await client.whole()
        with trio.move_on_after(5):
            return head, body, await client.closed() == b""
    return head, body, False


GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


def post(body: bytes, *lines: bytes, length: int | None = None) -> bytes:
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: test", size, *lines, b"", body])


def websocket_only(app: App) -> App:
    """Make an app of WebSockets that knows of no lifespan and no HTTP."""

    async def wrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket", "nothing else here"
        await app(scope, receive, send)

    return wrapped


async def accept(receive: Receive, send: Send, **fields: object) -> None:
    """Accept a WebSocket."""
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **fields})


@websocket_only
async def websocket_echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send back each message."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
