"""A Quart-Trio app with a page, a login and a stream for those who are logged in."""

from __future__ import annotations

from quart import abort, redirect, request, session
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from trio_sse import Connection
from trio_sse.quart import QuartSSE

app = QuartTrio(__name__)
app.secret_key = "of a test"
sse = QuartSSE(app, reconnect_spread=1)
open_streams: set[Connection] = set()

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Members</title>
<form action="/login" method="post"><input name="name"><button id="enter">Enter</button></form>
<p id="status">out</p><ul id="news"></ul>
<script>
  const say = text => document.getElementById("news").append(
    Object.assign(document.createElement("li"), {textContent: text}));
  if (location.search === "?follow") {
    const source = new EventSource("/news");
    const status = document.getElementById("status");
    source.addEventListener("open", () => status.textContent = "open");
    source.addEventListener("error", () =>
      status.textContent = source.readyState === EventSource.CLOSED ? "refused" : "away");
    source.addEventListener("hello", event => say(event.data));
    source.addEventListener("news", event => say(event.data));
  }
</script>"""


@app.get("/")
async def page() -> str:
    """Return the page; with `?follow` it opens the stream."""
    return PAGE


@app.post("/login")
async def login() -> ResponseReturnValue:
    """Let somebody in by a name."""
    session["name"] = (await request.form)["name"]
    return redirect("/?follow")


@sse.route("/news")
async def news(connection: Connection) -> None:
    """Follow the news, if logged in."""
    if "name" not in session:
        abort(401)
    open_streams.add(connection)
    try:
        if connection.last_event_id is None:
            await connection.send(f"hello {session['name']}", event="hello")
        await connection.subscribe("news")
    finally:
        open_streams.discard(connection)


@app.post("/publish")
async def publish() -> ResponseReturnValue:
    """Publish the request's body."""
    await sse.hub.publish("news", await request.get_data(as_text=True), event="news")
    return "", 204


@app.post("/cut")
async def cut() -> ResponseReturnValue:
    """Cut all streams, whose clients reconnect, and publish while they are away."""
    for connection in list(open_streams):
        connection.close(reconnect=True)
    await sse.hub.publish("news", "while away", event="news")
    return "", 204
