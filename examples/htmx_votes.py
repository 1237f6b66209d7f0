"""htmx with its SSE extension: the page needs no script. `python -m examples.htmx_votes`.

The server sends HTML. An event's type names the element that it replaces (`sse-swap`), and its data is HTML.
"""

from __future__ import annotations

import html

import trio

from examples.pages import add_pages, serve
from trio_sse import Connection, HTTPException, Request, Response, Server

server = Server()
votes = {"Tea": 0, "Coffee": 0, "Water": 0}


def row(name: str) -> str:
    """Return the HTML of one row of the poll."""
    share = 100 * votes[name] // (sum(votes.values()) or 1)
    bar = f'<div class="bar"><i style="width:{share}%"></i></div>'
    return f'<div class="row"><b>{html.escape(name)}</b><span>{votes[name]}</span></div>{bar}'


@server.route("/events")
async def events(connection: Connection) -> None:
    async with server.hub.subscribe("votes", last_event_id=connection.last_event_id) as subscription:
        for name in votes:
            await connection.send(row(name), event=name.lower())
        await connection.forward(subscription)


@server.endpoint("/votes/{name}", methods=["POST"])
async def vote(request: Request, name: str) -> Response:
    if name not in votes:
        raise HTTPException(404, f"vote for {', '.join(votes)}")
    votes[name] += 1
    for each in votes:
        await server.hub.publish("votes", row(each), event=each.lower(), key=each)
    return Response(status=204)


if __name__ == "__main__":
    add_pages(server, "htmx_votes.html", "htmx.min.js", "htmx-ext-sse.min.js")
    trio.run(serve, server)
