"""The app of `benchmarks.exchanges`, without a framework: each path answers in another way.

The peers' environment has neither Trio nor trio_sse, so nothing here imports them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Fields = Iterable[tuple[bytes, bytes]]

_TEXT = (b"content-type", b"text/plain")


async def exchanges_app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await _ANSWERS.get(scope["path"], _describe)(scope, receive, send)


async def _whole(
    send: Send, body: bytes, *, status: int = 200, fields: Fields = (), length: int | None = None
) -> None:
    head = [_TEXT, (b"content-length", str(len(body) if length is None else length).encode()), *fields]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def _start(send: Send, *fields: tuple[bytes, bytes], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [_TEXT, *fields]})


async def _describe(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with what the app receives of the request."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    names = sorted(name.decode() for name, _ in scope["headers"])
    told = (
        f"{scope['method']} {scope['raw_path'].decode()}?{scope['query_string'].decode()} {names} {len(body)}"
    )
    await _whole(send, told.encode())


async def _unread(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _whole(send, b"not read", status=401)


async def _parts(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _start(send)
    for part in (b"one", b"two"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def _no_content(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def _not_modified(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b'"a"')]})
    await send({"type": "http.response.body"})


async def _closes(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _whole(send, b"last", fields=[(b"connection", b"close")])


async def _cookies(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _whole(send, b"two", fields=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])


async def _own_date(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _whole(send, b"own", fields=[(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"server", b"mine")])


async def _short(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _whole(send, b"short", length=10)


async def _long(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _whole(send, b"too long", length=3)


async def _says_chunked(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _start(send, (b"transfer-encoding", b"chunked"))
    await send({"type": "http.response.body", "body": b"text"})


async def _bad_field(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _whole(send, b"text", fields=[(b"x-bad", b"a\r\nx-injected: b")])


async def _raises(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    raise RuntimeError("before its response")


async def _raises_late(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    raise RuntimeError("within its response")


async def _returns(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    return


async def _incomplete(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _start(send)
    await send({"type": "http.response.body", "body": b"part", "more_body": True})


async def _twice(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await _whole(send, b"once")
    await send({"type": "http.response.body", "body": b"twice"})


_ANSWERS: dict[str, Callable[[dict[str, Any], Receive, Send], Awaitable[None]]] = {
    "/unread": _unread,
    "/parts": _parts,
    "/204": _no_content,
    "/304": _not_modified,
    "/closes": _closes,
    "/cookies": _cookies,
    "/own-date": _own_date,
    "/short": _short,
    "/long": _long,
    "/says-chunked": _says_chunked,
    "/bad-field": _bad_field,
    "/raises": _raises,
    "/raises-late": _raises_late,
    "/returns": _returns,
    "/incomplete": _incomplete,
    "/twice": _twice,
}
