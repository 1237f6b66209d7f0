"""Small ASGI apps and requests for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

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
