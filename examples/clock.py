"""Show the same countdown in every window, whenever it was opened: `python -m examples.clock`."""

from __future__ import annotations

import os
import time
from functools import partial

import trio

from trio_sse import Connection, Request, Response, Server, Ticker, client_script

PORT = int(os.environ.get("PORT", "8000"))
ROUND_SECONDS = 60
HTML = "text/html; charset=utf-8"

server = Server()
tickers: list[Ticker] = []

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>Countdown</title>
<meta name="viewport" content="width=device-width">
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui; }}
  body {{ display: grid; place-items: center; min-height: 90vh; text-align: center; }}
  #left {{ font-size: 30vmin; font-variant-numeric: tabular-nums; line-height: 1; }}
  progress {{ width: 60vmin; }}
</style>
<body data-elapsed="{elapsed:.3f}"><main>
<div id="left">&hellip;</div><progress max="{seconds}"></progress>
<p>Every window shows the same number. Your clock is off by <span id="offset">…</span> ms.</p>
</main>
<script src="/trio-sse.js"></script>
<script>
  const [left, bar, offset] = ["#left", "progress", "#offset"].map((name) => document.querySelector(name));
  const clock = TrioSSE.clock("/clock");
  clock.onSecond((second) => {{
    left.textContent = {seconds} - second % {seconds};
    bar.value = second % {seconds};
    offset.textContent = Math.round(clock.offset);
  }});
</script>"""


@server.route("/clock")
async def clock(connection: Connection) -> None:
    await connection.subscribe("clock")


@server.endpoint("/")
async def page(request: Request) -> Response:
    return Response(PAGE.format(elapsed=tickers[0].elapsed, seconds=ROUND_SECONDS), content_type=HTML)


@server.endpoint("/trio-sse.js")
async def script(request: Request) -> Response:
    return Response(client_script(), content_type="text/javascript; charset=utf-8")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        # Rounds begin on the full minute.
        reference = time.time() // ROUND_SECONDS * ROUND_SECONDS
        tickers.append(await nursery.start(partial(server.hub.run_ticker, "clock", reference=reference)))
        print(f"http://127.0.0.1:{addresses[0][1]}", flush=True)


if __name__ == "__main__":
    trio.run(main)
