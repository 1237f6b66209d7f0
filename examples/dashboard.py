"""A live dashboard: a state whose changes are sent as patches. `python -m examples.dashboard`.

Each page chooses how often it is updated. All pages with the same interval share one broadcast.
"""

from __future__ import annotations

import random

import trio

from examples.pages import add_pages, serve
from trio_sse import Connection, HTTPException, Server

server = Server()
regions = {"Berlin": 40, "Lagos": 55, "Osaka": 25, "Quito": 30}
board = server.hub.state("board", {"requests": 0, "latency": 0.0, "errors": 0, "regions": regions})


@server.route("/board")
async def stream_board(connection: Connection) -> None:
    try:
        every = float(connection.request.query.get("every", "1"))
        await connection.subscribe("board", interval=every)
    except ValueError as error:
        raise HTTPException(400, "every must be a number of seconds from 0.01 to 3600") from error


async def measure() -> None:
    """Stand in for real measurements: change the values twenty times a second."""
    total = errors = 0
    while True:
        total += random.randrange(50)
        errors += random.random() < 0.05
        region = random.choice(list(regions))
        regions[region] = min(100, max(0, regions[region] + random.randrange(-9, 10)))
        latency = round(random.gauss(12, 2), 1)
        await board.set({"requests": total, "latency": latency, "errors": errors, "regions": regions})
        await trio.sleep(0.05)


if __name__ == "__main__":
    add_pages(server, "dashboard.html")
    trio.run(serve, server, measure)
