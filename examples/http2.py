"""Forty streams to one page, over one connection of HTTP/2: `python -m examples.http2`.

The certificate is made for this run, so the browser warns of it. With one of your own, name its files:
`python -m examples.http2 cert.pem key.pem`. With HTTP2=0, the server speaks HTTP/1.1 alone: six streams of
the page open, the others wait, and so does what the button sends.
"""

import os
import random
import ssl
import sys
from functools import partial

import trio

from trio_sse import Connection, Request, Response, Server

PORT = int(os.environ.get("PORT", "8000"))
SENSORS = 40

PAGE = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Forty streams</title><link rel="icon" href="data:,">
<style>li {{ display: inline-block; width: 7em; margin: 0.2em; padding: 0.4em; background: #eee }}</style>
<h1><output id="open">0</output> of {SENSORS} streams are open</h1>
<p><button>Reset all sensors</button> <output id="answer"></output></p>
<ul></ul>
<script>
  const get = id => document.getElementById(id);
  const sources = [...Array({SENSORS}).keys()].map(number => {{
    const item = document.querySelector("ul").appendChild(document.createElement("li"));
    const source = new EventSource(`/sensors/${{number}}`);
    source.onmessage = event => item.textContent = `${{number}}: ${{event.data}}`;
    source.onopen = source.onerror = () =>
      get("open").value = sources.filter(one => one.readyState === EventSource.OPEN).length;
    return source;
  }});
  document.querySelector("button").onclick = async () =>
    get("answer").value = await (await fetch("/reset", {{method: "POST"}})).text();
</script></html>"""

server = Server(http2=os.environ.get("HTTP2") != "0")
values = [20.0] * SENSORS


@server.endpoint("/")
async def page(request: Request) -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


@server.route("/sensors/{number:int}")
async def sensor(connection: Connection, number: int) -> None:
    await connection.subscribe(f"sensor/{number}")


@server.endpoint("/reset", methods=["POST"])
async def reset(request: Request) -> Response:
    values[:] = [20.0] * SENSORS
    return Response(f"reset over HTTP/{request.http_version}")


async def measure() -> None:
    """Stand in for real sensors."""
    while True:
        for number in range(SENSORS):
            values[number] += random.uniform(-0.5, 0.5)
            await server.hub.publish(f"sensor/{number}", f"{values[number]:.1f} °C")
        await trio.sleep(0.2)


def make_context(files: list[str]) -> ssl.SSLContext:
    """Return a TLS context with a certificate from files, or with one for this run."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if files:
        context.load_cert_chain(*files)
    else:
        import trustme  # pip install trustme

        trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


async def main() -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(server.serve, "127.0.0.1", PORT, ssl_context=make_context(sys.argv[1:]))
        addresses = await nursery.start(serve)
        nursery.start_soon(measure)
        print(f"https://127.0.0.1:{addresses[0][1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
