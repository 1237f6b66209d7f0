"""Event streams in a Starlette app: `python -m examples.starlette_app`.

In FastAPI, add the route with `app.router.routes.append(Route(...))`. The hub runs in the app's lifespan, so
the app also works on other servers that use Trio, such as `hypercorn -k trio examples.starlette_app:app`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from trio_sse import Connection, HTTPException, Hub, Server
from trio_sse.asgi import event_stream

PORT = int(os.environ.get("PORT", "8000"))

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Auction</title>
<h1>Highest bid: <output>none yet</output></h1>
<button>Bid more</button>
<script>
  const output = document.querySelector("output");
  new EventSource("/lots/1").addEventListener("bid", event => {
    output.textContent = JSON.parse(event.data).amount;
  });
  document.querySelector("button").addEventListener("click", () => fetch("/lots/1", {method: "POST"}));
</script></html>"""

hub = Hub()
bids = {1: 0, 2: 0}


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE)


async def bid(request: Request) -> Response:
    lot = request.path_params["lot"]
    if lot not in bids:
        return Response("no such lot", status_code=404)
    bids[lot] += 10
    await hub.publish(f"lots/{lot}", {"amount": bids[lot]}, event="bid", key=str(lot))
    return Response(status_code=204)


async def follow(connection: Connection, lot: int) -> None:
    if lot not in bids:
        raise HTTPException(404, "no such lot")
    cursor = connection.last_event_id or hub.last_event_id  # read before the state, so that no bid is missed
    await connection.send({"amount": bids[lot]}, event="bid")
    async with hub.subscribe(f"lots/{lot}", last_event_id=cursor) as events:
        await connection.forward(events)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield
        nursery.cancel_scope.cancel()


app = Starlette(
    routes=[
        Route("/", page),
        Route("/lots/{lot:int}", bid, methods=["POST"]),
        Route("/lots/{lot:int}", event_stream(follow, hub=hub)),
    ],
    lifespan=lifespan,
)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(Server(app).serve, "127.0.0.1", PORT)
        print(f"http://127.0.0.1:{addresses[0][1]}/", flush=True)


if __name__ == "__main__":
    trio.run(main)
