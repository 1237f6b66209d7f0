"""A server beside other tasks of a Trio program: `python examples/embedded.py`.

Open the page in two windows: each sees who comes and goes. Ctrl-C drains, and the windows come back when the
program is started again.
"""

import os
import signal

import trio

from trio_sse import Connection, Hub, Request, Response, Server

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Who is here</title>
<h1>Windows here: <output>?</output></h1>
<ul></ul>
<script>
  const source = new EventSource("/presence");
  const say = text => {
    document.querySelector("ul").prepend(Object.assign(document.createElement("li"), {textContent: text}));
  };
  source.addEventListener("here", event => {
    document.querySelector("output").textContent = JSON.parse(event.data).count;
    say(JSON.parse(event.data).text);
  });
  source.addEventListener("error", () => say("cut off; the browser comes back by itself"));
</script></html>"""

hub = Hub()
server = Server(hub=hub)
here = 0


@server.endpoint("/")
async def page(request: Request) -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


@server.route("/presence")
async def presence(connection: Connection) -> None:
    # From before this window's own arrival, so that it sees that, too.
    cursor = connection.last_event_id or hub.last_event_id
    announce(+1, f"{connection.peer} came")
    try:
        async with hub.subscribe("presence", last_event_id=cursor) as events:
            await connection.forward(events)
    finally:
        # The hub outlives the handlers, so this works when the server is cancelled, too.
        reason = connection.end_reason
        announce(-1, f"{connection.peer} left: {reason.value if reason else 'done'}")


def announce(change: int, text: str) -> None:
    """Tell everyone; without waiting, as a `finally` that may run cancelled can't wait."""
    global here
    here += change
    hub.publish_nowait("presence", {"count": here, "text": text}, event="here")


async def report() -> None:
    """Stand for the rest of the program."""
    while True:
        await trio.sleep(10)
        print(f"open streams: {server.statistics().open_streams}", flush=True)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", int(os.environ.get("PORT", "8000")))
        print(f"http://127.0.0.1:{addresses[0][1]}/", flush=True)
        nursery.start_soon(report)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                await server.drain()
                nursery.cancel_scope.cancel()
                break


if __name__ == "__main__":
    trio.run(main)
