"""Streams for a page that uses the browser's own `EventSource`, and the page, which has none of its own."""

from __future__ import annotations

import trio

from trio_sse import Connection, HTTPException, Request, Response, Server

server = Server(reconnect_spread=1)

SEPARATORS = "a\u2028b\u2029c\u0085d"

# What each client of /resume has sent as its Last-Event-ID, in order.
sent: dict[str, list[str | None]] = {}


@server.endpoint("/")
async def page(request: Request) -> Response:
    """Return a page to run scripts on."""
    return Response(
        "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>page</title>",
        content_type="text/html; charset=utf-8",
    )


@server.route("/text")
async def text(connection: Connection) -> None:
    """Send what is easily read wrong, then have the browser stay away."""
    if connection.last_event_id is not None:
        raise HTTPException(204)
    await connection.send("one\ntwo\r\nthree\rfour\n\nsix", id="1", retry=20)
    await connection.send(SEPARATORS, id="2")
    await connection.send("typed", event="greeting", id="3")
    await connection.comment("nobody sees this")
    await connection.send(" : leading", id="grüße")
    await connection.send("", event="empty")


@server.route("/resume")
async def resume(connection: Connection) -> None:
    """Send one event a connection, three in all, and end it properly or cut it."""
    query, last = connection.request.query, connection.last_event_id
    sent.setdefault(query["client"], []).append(last)
    number = int(last.removeprefix("größe/")) + 1 if last else 1
    if number == 4:
        raise HTTPException(204)
    await connection.send(f"{number}", id=f"größe/{number}", retry=30)
    connection.close(reconnect="cut" in query)
    await trio.sleep_forever()


@server.endpoint("/sent")
async def tell(request: Request) -> Response:
    """Return the ids that a client has sent, one a line."""
    return Response("\n".join(str(id) for id in sent[request.query["client"]]))


@server.route("/refused")
async def refused(connection: Connection) -> None:
    """Refuse."""
    raise HTTPException(403)
