"""Datastar: the server sends fragments of the page. `python -m examples.datastar_counter`.

Datastar opens the stream with fetch. It reconnects when the connection is lost, but not when the response is
complete.
"""

from __future__ import annotations

from datetime import datetime

import trio

from examples.pages import add_pages, serve
from trio_sse import Connection, Request, Response, Server

server = Server()
clicks = 0


def fragments(html: str) -> tuple[str, str]:
    """Return the type and data of an event that makes Datastar replace the elements with the same ids."""
    return "datastar-merge-fragments", f"fragments {html}"


async def publish_clicks() -> None:
    event, data = fragments(f'<div class="figure" id="clicks">{clicks}</div>')
    await server.hub.publish("page", data, event=event, key="clicks")


@server.route("/events")
async def events(connection: Connection) -> None:
    async with server.hub.subscribe("page") as subscription:
        await publish_clicks()
        await connection.forward(subscription)


@server.endpoint("/click", methods=["POST"])
async def click(request: Request) -> Response:
    global clicks
    clicks += 1
    await publish_clicks()
    return Response(status=204)


async def tick() -> None:
    while True:
        event, data = fragments(f'<span id="time">{datetime.now():%H:%M:%S}</span>')
        await server.hub.publish("page", data, event=event, key="time")
        await trio.sleep(1)


if __name__ == "__main__":
    add_pages(server, "datastar_counter.html", "datastar.js")
    trio.run(serve, server, tick)
