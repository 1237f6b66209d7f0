"""A Quart-Trio app with event streams, with default settings, on one of two servers.

`python -m benchmarks.servers.quart_app ours` runs it on trio_sse's own server, and with `hypercorn` on
`trio_sse.hypercorn`; `harness/control.py` lists the commands.
"""

from __future__ import annotations

import argparse
from functools import partial

import trio
from quart_trio import QuartTrio

from benchmarks.harness.control import DATA, LIVE, Gate, Start, serve_with_control
from trio_sse import Connection, Server
from trio_sse.quart import QuartSSE

app = QuartTrio(__name__)
sse = QuartSSE(app, max_connections=20_000)
gate = Gate()


@sse.route("/updates")
async def updates(connection: Connection) -> None:
    await connection.subscribe(LIVE)


@sse.route("/own")
async def own(connection: Connection) -> None:
    await connection.start()
    sent = 0
    while True:
        for _ in range(await gate.wait()):
            sent += 1
            await connection.send(DATA, id=f"{sent}")


async def publish(data: str, topic: str) -> None:
    await sse.hub.publish(topic, data)


async def start_ours(nursery: trio.Nursery) -> int:
    addresses = await nursery.start(Server(app, max_connections=20_000).serve, "127.0.0.1", 0)
    return int(addresses[0][1])


def chosen_server() -> Start:
    """Return the function that starts the server that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", choices=("ours", "hypercorn"))
    if parser.parse_args().server == "ours":
        return start_ours
    # Imported only here, so that our own server loads nothing that it does not need.
    from benchmarks.servers import on_hypercorn
    from trio_sse.hypercorn import serve

    return partial(on_hypercorn.start, serve, app)


if __name__ == "__main__":
    trio.run(partial(serve_with_control, chosen_server(), publish, gate=gate))
