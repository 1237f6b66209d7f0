"""The plain generator of Quart's documentation ("How to use server sent events"), on hypercorn's own `serve`.

This is an event stream without trio_sse: each client has a queue, here a Trio memory channel, and a
generator encodes the events from it. It has no keepalive, no bound on a slow client's queue, no replay and
no limit. Run it by hand with `python -m benchmarks.servers.quart_generator`; `harness/control.py` lists the
commands.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from itertools import count

import trio
from hypercorn.trio import serve
from quart import Response, abort, make_response, request
from quart_trio import QuartTrio

from benchmarks.harness.control import DATA, Gate, serve_with_control
from benchmarks.servers import on_hypercorn


@dataclass
class ServerSentEvent:
    data: str
    id: int

    def encode(self) -> bytes:
        return f"data: {self.data}\nid: {self.id}\n\n".encode()


app = QuartTrio(__name__)
gate = Gate()
clients: set[trio.MemorySendChannel[tuple[int, str]]] = set()
numbers = count(1)


@app.get("/updates")
async def updates() -> Response:
    if "text/event-stream" not in request.accept_mimetypes:  # type: ignore[comparison-overlap]  # their type
        abort(400)
    # Unbounded, as the queues in the documentation are. Created before the response starts, so that a client
    # that has the response's head misses nothing.
    publisher, events = trio.open_memory_channel[tuple[int, str]](math.inf)
    clients.add(publisher)

    async def send_events() -> AsyncIterator[bytes]:
        try:
            async for number, data in events:
                yield ServerSentEvent(data, number).encode()
        finally:
            clients.remove(publisher)

    response = await make_response(
        send_events(),
        {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache",
            "Transfer-Encoding": "chunked",
        },
    )
    assert isinstance(response, Response)
    response.timeout = None
    return response


@app.get("/own")
async def own() -> Response:
    async def send_events() -> AsyncIterator[bytes]:
        own_numbers = count(1)
        while True:
            for _ in range(await gate.wait()):
                yield ServerSentEvent(DATA, next(own_numbers)).encode()

    response = await make_response(send_events(), {"Content-Type": "text/event-stream"})
    assert isinstance(response, Response)
    response.timeout = None
    return response


async def publish(data: str, topic: str) -> None:
    message = (next(numbers), data)
    for client in clients:
        client.send_nowait(message)


if __name__ == "__main__":
    trio.run(partial(serve_with_control, partial(on_hypercorn.start, serve, app), publish, gate=gate))
