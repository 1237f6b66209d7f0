"""Run a server next to other tasks of a Trio program: `python -m examples.embedded`.

Open the page in two windows: each shows when the other connects and disconnects. Ctrl-C drains the server.
The windows reconnect when the program is started again.
"""

import os
import signal

import trio

from trio_sse import Connection, Hub, Request, Response, Server

PORT = int(os.environ.get("PORT", "8000"))

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Open windows</title>
<h1>Open windows: <output>?</output></h1>
<ul></ul>
<script>
  const source = new EventSource("/presence");
  const log = text => {
    document.querySelector("ul").prepend(Object.assign(document.createElement("li"), {textContent: text}));
  };
  source.addEventListener("presence", event => {
    document.querySelector("output").textContent = JSON.parse(event.data).count;
    log(JSON.parse(event.data).text);
  });
  source.addEventListener("error", () => log("disconnected; the browser is reconnecting"));
</script></html>"""

hub = Hub()
server = Server(hub=hub)
open_windows = 0


@server.endpoint("/")
async def page(request: Request) -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


@server.route("/presence")
async def presence(connection: Connection) -> None:
    # Read before this window is announced, so that the window receives its own announcement.
    cursor = connection.last_event_id or hub.last_event_id
    announce(+1, f"{connection.peer} connected")
    try:
        async with hub.subscribe("presence", last_event_id=cursor) as events:
            await connection.forward(events)
    finally:
        # The hub outlives the handlers, so this also works when the server is cancelled.
        reason = connection.end_reason
        announce(-1, f"{connection.peer} disconnected: {reason.value if reason else 'done'}")


def announce(change: int, text: str) -> None:
    """Publish the change. It does not wait, because a `finally` block cannot wait once it is cancelled."""
    global open_windows
    open_windows += change
    hub.publish_nowait("presence", {"count": open_windows, "text": text}, event="presence")


async def report() -> None:
    """Stand in for the rest of the program."""
    while True:
        await trio.sleep(10)
        print(f"open streams: {server.statistics().open_streams}", flush=True)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"http://127.0.0.1:{addresses[0][1]}/", flush=True)
        nursery.start_soon(report)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                await server.drain()
                nursery.cancel_scope.cancel()
                break


if __name__ == "__main__":
    trio.run(main)
