"""A Quart-Trio app with a login and a stream: `python -m examples.quart_app`.

Open two windows, log in with two names, and talk. The same app runs on each of these servers:

    trio-sse serve examples.quart_app:app
    trio-sse serve examples.quart_app:app --http2 --certfile cert.pem --keyfile key.pem
    hypercorn -k trio examples.quart_app:app
"""

import os
from collections.abc import Awaitable, Callable
from functools import wraps

import trio
from quart import abort, redirect, request, session
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from trio_sse import Connection, Server
from trio_sse.quart import QuartSSE

PORT = int(os.environ.get("PORT", "8000"))

app = QuartTrio(__name__)
app.secret_key = os.urandom(16)  # a real app keeps its key between runs
sse = QuartSSE(app)

View = Callable[..., Awaitable[ResponseReturnValue]]

STYLE = "<style>body{font:16px/1.5 system-ui;max-width:36rem;margin:3rem auto;padding:0 1rem}</style>"
HEAD = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Talk</title>{STYLE}<h1>Talk</h1>'
LOGIN = (
    HEAD
    + """<form action="/login" method="post">
  <label>Your name <input name="name" required autofocus></label> <button>Log in</button>
</form></html>"""
)
ROOM = (
    HEAD
    + """<form id="say"><input name="text" autocomplete="off" autofocus> <button>Say</button></form>
<ul id="said"></ul>
<script>
  const said = document.getElementById("said"), form = document.getElementById("say");
  const source = new EventSource("/stream");
  source.addEventListener("said", event => {
    const {name, text} = JSON.parse(event.data);
    said.prepend(Object.assign(document.createElement("li"), {textContent: `${name}: ${text}`}));
  });
  form.addEventListener("submit", event => {
    event.preventDefault();
    fetch("/say", {method: "POST", body: new FormData(form)});
    form.reset();
  });
</script></html>"""
)


def login_required(view: View) -> View:
    @wraps(view)
    async def checked(**variables: object) -> ResponseReturnValue:
        if "name" not in session:
            abort(401)
        return await view(**variables)

    return checked


@app.get("/")
async def page() -> str:
    return ROOM if "name" in session else LOGIN


@app.post("/login")
async def login() -> ResponseReturnValue:
    session["name"] = (await request.form)["name"]
    return redirect("/")


@app.post("/say")
@login_required
async def say() -> ResponseReturnValue:
    text = (await request.form)["text"]
    await sse.hub.publish("talk", {"name": session["name"], "text": text}, event="said")
    return "", 204


@app.get("/stream")
@login_required
@sse.stream
async def stream(connection: Connection) -> None:
    await connection.send({"name": "server", "text": f"hello {session['name']}"}, event="said")
    await connection.subscribe("talk")  # sends the topic's events until the client disconnects


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(Server(app).serve, "127.0.0.1", PORT)
        print(f"http://127.0.0.1:{addresses[0][1]}/", flush=True)


if __name__ == "__main__":
    trio.run(main)
