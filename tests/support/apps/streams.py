"""Streams to follow from outside: broadcast, counted, cut, refused, and one that floods its reader."""

from __future__ import annotations

import trio

from trio_sse import Connection, HTTPException, Request, Response, Server

# Readers reconnect after a second at the latest. The drain time is longer than what a test waits for an end
# that is to come sooner.
server = Server(reconnect_spread=1, drain_timeout=600)

_EVENTS_PER_PORTION = 3


@server.route("/live")
async def live(connection: Connection) -> None:
    """Forward a topic."""
    await connection.subscribe("live")


@server.endpoint("/live", methods=["POST"])
async def publish(request: Request) -> Response:
    """Publish the request's body on that topic."""
    await server.hub.publish("live", request.body.decode(), event="said")
    return Response(status=204)


@server.route("/count/{to:int}")
async def count(connection: Connection, to: int) -> None:
    """Count on from where the client was, and end."""
    for number in range(int(connection.last_event_id or 0) + 1, to + 1):
        await connection.send({"n": number}, event="tick", id=str(number))


@server.route("/short")
async def short(connection: Connection) -> None:
    """Send one event, and end; the client may be back at once."""
    await connection.send("short", retry=10)


@server.route("/portions/{to:int}")
async def portions(connection: Connection, to: int) -> None:
    """Count, and cut the stream every few events; after the last one, make the client stay away."""
    begin = int(connection.last_event_id or 0) + 1
    if begin > to:
        raise HTTPException(204)
    for number in range(begin, min(begin + _EVENTS_PER_PORTION, to + 1)):
        await connection.send(f"{number}", id=str(number), retry=10)
    connection.close(reconnect=True)
    await trio.sleep_forever()


@server.route("/text")
async def text(connection: Connection) -> None:
    """Send what is easily read wrong."""
    await connection.send("one\ntwo\n\nfour", event="lines", id="a")
    await connection.send("a\u2028b\u0085c", event="separators", id="b")
    await connection.comment("nobody sees this")
    await connection.send("", id="c")
    await connection.send(" : leading", id="d")


@server.route("/unicode-id")
async def unicode_id(connection: Connection) -> None:
    """Send an id that is not ASCII, then say with which one the client reconnected."""
    if connection.last_event_id is None:
        await connection.send("first", id="größe", retry=10)
    else:
        await connection.send(connection.last_event_id)


@server.route("/private")
async def private(connection: Connection) -> None:
    """Let only those in who have a key."""
    if connection.request.headers.get("authorization") != "Bearer key":
        raise HTTPException(401)
    await connection.send("welcome")


@server.route("/headers/{name}")
async def headers(connection: Connection, name: str) -> None:
    """Send all values of a header, and be cut after the first time."""
    await connection.send(connection.request.headers.get_all(name), id="3", retry=10)
    if connection.last_event_id != "3":
        connection.close(reconnect=True)
        await trio.sleep_forever()


@server.route("/over")
async def over(connection: Connection) -> None:
    """Respond that there are no more events."""
    raise HTTPException(204)


@server.route("/flood")
async def flood(connection: Connection) -> None:
    """Send more at once than all buffers on the way hold."""
    while True:
        await connection.send("x" * 1_000_000)


@server.route("/ticks")
async def ticks(connection: Connection) -> None:
    """Send forever, a little at a time."""
    while True:
        await connection.send("tick")
        await trio.sleep(0.01)


@server.endpoint("/slow")
async def slow(request: Request) -> Response:
    """Take long to answer."""
    await trio.sleep_forever()
    raise AssertionError


@server.endpoint("/plain")
async def plain(request: Request) -> Response:
    """Respond with something that is not a stream."""
    return Response("no stream")
