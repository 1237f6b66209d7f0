"""An app of `apps.py` on our server or on hypercorn, both on Trio.

`python -m benchmarks.servers.hosted_app ours starlette` runs it; `harness/control.py` lists the commands.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import trio

from benchmarks.harness.control import Start, serve_with_control
from benchmarks.servers import smallest_trio
from benchmarks.servers.apps import quart_app, starlette_app
from benchmarks.servers.exchanges_app import exchanges_app


async def publish(data: str, topic: str) -> None:
    raise NotImplementedError("these apps have no events")


async def start_ours(app: Any, nursery: trio.Nursery) -> int:
    from trio_sse import Server

    addresses = await nursery.start(Server(app).serve, "127.0.0.1", 0)
    return int(addresses[0][1])


def chosen() -> Start:
    """Return the function that starts the server and the app that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", choices=("ours", "floor", "hypercorn"))
    parser.add_argument("app", choices=("starlette", "quart", "exchanges"))
    arguments = parser.parse_args()
    if arguments.app == "starlette":
        app = starlette_app()
    elif arguments.app == "exchanges":
        app = exchanges_app
    else:
        from quart_trio import QuartTrio

        app = quart_app(QuartTrio)
    if arguments.server == "ours":
        return partial(start_ours, app)
    if arguments.server == "floor":
        return partial(smallest_trio.start, app)
    # Imported only here, so that our own server loads nothing that it does not need.
    from hypercorn.trio import serve

    from benchmarks.servers import on_hypercorn

    return partial(on_hypercorn.start, serve, app)


if __name__ == "__main__":
    trio.run(partial(serve_with_control, chosen(), publish))
