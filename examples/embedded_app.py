"""Run an app, a route of the server and a worker in one Trio program: `python -m examples.embedded_app`.

They share a nursery: the worker is cancelled when the server has drained, and the server when the worker
fails.
"""

import hashlib
import os
import signal

import trio
from quart_trio import QuartTrio

from trio_sse import Connection, Hub, Server
from trio_sse.quart import QuartSSE

PORT = int(os.environ.get("PORT", "8000"))

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Digest</title>
<h1>Hashing <output>0</output> %</h1>
<progress max="100" value="0"></progress> <code></code>
<script>
  const show = ({percent, digest}) => {
    document.querySelector("output").textContent = percent;
    document.querySelector("progress").value = percent;
    document.querySelector("code").textContent = digest;
  };
  new EventSource("/progress").addEventListener("progress", event => show(JSON.parse(event.data)));
</script></html>"""

hub = Hub()
app = QuartTrio(__name__)
QuartSSE(app, hub=hub)  # the app can have its own streams on the same hub
server = Server(app, hub=hub)


@app.get("/")
async def page() -> str:
    return PAGE


@server.route("/progress")
async def progress(connection: Connection) -> None:
    await connection.subscribe("progress")


async def work() -> None:
    """Hash forever, in a thread, so that the event loop is not blocked."""
    while True:
        digest = hashlib.sha256()
        for percent in range(1, 101):
            await trio.to_thread.run_sync(digest.update, os.urandom(1 << 20))
            await hub.publish(
                "progress", {"percent": percent, "digest": digest.hexdigest()}, event="progress"
            )
            await trio.sleep(0.05)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"http://127.0.0.1:{addresses[0][1]}/", flush=True)
        nursery.start_soon(work)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                await server.drain()
                nursery.cancel_scope.cancel()
                break


if __name__ == "__main__":
    trio.run(main)
