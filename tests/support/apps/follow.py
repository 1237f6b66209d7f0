"""A server for tests of the JavaScript module: a topic, a clock, states, and a network that can be bad."""

from __future__ import annotations

import json
import sys
import time
from functools import partial

import trio

from trio_sse import (
    Connection,
    EndReason,
    HTTPException,
    Hub,
    PatchFormat,
    Request,
    Response,
    Server,
    client_script,
    read_offset,
)
from trio_sse.websocket import WebSocketConnection

hub = Hub(history=1000)
server = Server(hub=hub, reconnect_spread=1)

STATES = {
    "merge": hub.state("merge", {"n": 0, "deep": {"kept": True}}),
    "patch": hub.state("patch", {"rows": [1, 2, 3]}, patch=PatchFormat.JSON),
}

#: What happens to streams; polls always work.
mode = "ok"
clock_began_at = time.monotonic()

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Follow</title>
<body data-elapsed="%s"><script src="/trio-sse.js"></script>"""

MODULE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Module</title>
<script type="module">import "/trio-sse.js"; document.title = typeof TrioSSE.follow;</script>"""


def is_poll(connection: Connection) -> bool:
    """Whether a client asks for a portion rather than for a stream."""
    return connection.request.headers.get("accept") == "application/json"


@server.on_connect
async def spoil(connection: Connection) -> None:
    """Do to streams what the mode says."""
    global mode
    if is_poll(connection) and mode not in ("gone", "away"):
        return
    match mode:
        case "unavailable":
            raise HTTPException(503)
        case "away":
            raise HTTPException(503, headers={"Retry-After": "1"})
        case "gone":
            raise HTTPException(410)
        case "cut":
            await connection.start()
            connection.close(reconnect=True)
        case "dead":  # once: a network has forgotten the connection
            mode = "ok"
            await connection.send("0.1", event="trio-sse.heartbeat")
            await trio.sleep_forever()
        case "withheld":
            await connection.start()
            await trio.sleep_forever()


@server.route("/live")
async def live(connection: Connection) -> None:
    """Follow the numbers."""
    await connection.subscribe("live")


@server.route("/topics")
async def topics(connection: Connection) -> None:
    """Follow two topics, whose events say which."""
    await connection.subscribe("live", "other", include_topic=True)


@server.route("/clock")
async def clock(connection: Connection) -> None:
    """Follow the clock, which runs from the first time that somebody does."""
    await connection.subscribe("clock")


@server.route("/states/{name}")
async def state(connection: Connection, name: str) -> None:
    """Follow a state."""
    await connection.subscribe(name)


@server.websocket("/echo")
async def echo(connection: WebSocketConnection) -> None:
    """Send each message back, with the protocol that carries it."""
    async for text in connection:
        assert isinstance(text, str)
        await connection.send_text(f"{text} over HTTP/{connection.request.http_version}")


@server.endpoint("/")
async def page(request: Request) -> Response:
    """Return the page, which begins with the clock's elapsed seconds, or the offset that is asked for."""
    elapsed = read_offset(request) or time.monotonic() - clock_began_at
    return Response(PAGE % f"{elapsed:.3f}", content_type="text/html; charset=utf-8")


@server.endpoint("/module")
async def module(request: Request) -> Response:
    """Return the page that imports the module."""
    return Response(MODULE, content_type="text/html; charset=utf-8")


@server.endpoint("/trio-sse.js")
async def script(request: Request) -> Response:
    """Return the module."""
    return Response(client_script(), content_type="text/javascript; charset=utf-8")


@server.endpoint("/publish", methods=["POST"])
async def publish(request: Request) -> Response:
    """Publish the numbers from the first to the second."""
    first, last = map(int, request.body.split())
    for number in range(first, last + 1):
        await hub.publish("live", f"{number}", event="number" if number % 2 else None)
        await trio.sleep(0.002)
    return Response("")


@server.endpoint("/say/{topic}", methods=["POST"])
async def say(request: Request, topic: str) -> Response:
    """Publish the body to a topic."""
    await hub.publish(topic, request.body.decode())
    return Response("")


@server.endpoint("/mode", methods=["POST"])
async def set_mode(request: Request) -> Response:
    """Make the network good or bad from now on, and cut the streams that there are."""
    global mode
    mode = request.body.decode()
    for stream in list(server._manager.streams):
        stream.end(EndReason.RECONNECT)
    return Response("")


@server.endpoint("/set/{name}", methods=["POST"])
async def set_state(request: Request, name: str) -> Response:
    """Set a state."""
    await STATES[name].set(json.loads(request.body))
    return Response("")


@server.endpoint("/forget/{topic}", methods=["POST"])
async def forget(request: Request, topic: str) -> Response:
    """Publish more to a topic than the log holds, so that nobody receives what they missed of it.

    A state gets values whose `n` is negative.
    """
    for number in range(1, 1002):
        if topic in STATES:
            await STATES[topic].set({"n": -number})
        else:
            await hub.publish(topic, "x")
    return Response("")


@server.endpoint("/statistics")
async def statistics(request: Request) -> Response:
    """Report how many streams there are, and the clock's elapsed seconds."""
    told = {
        "streams": server.statistics().open_streams,
        "subscriptions": hub.statistics().subscriptions,
        "elapsed": time.monotonic() - clock_began_at,
    }
    return Response(json.dumps(told), content_type="application/json")


async def main() -> None:
    """Serve on the port of the command line, with a clock that ticks ten times a second."""
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", int(sys.argv[1]))
        tick = partial(
            hub.run_ticker, "clock", every=0.1, reference=time.time() - time.monotonic() + clock_began_at
        )
        await nursery.start(tick)
        print(f"http://127.0.0.1:{addresses[0][1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
