"""Two subscriptions on one stream, each at its own pace: `python -m examples.two_paces`.

Alarms are sent when they happen, readings once a second. A client that is cut between the two resumes both
exactly: the ids of the stream name the position of each.
"""

from __future__ import annotations

import itertools
import os
import random
from functools import partial

import trio

from trio_sse import Connection, Server

PORT = int(os.environ.get("PORT", "8000"))
SENSORS = ("boiler", "garage", "roof")

server = Server()


@server.route("/house")
async def house(connection: Connection) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.subscribe, "alarms")
        nursery.start_soon(partial(connection.subscribe, "readings", interval=1))


async def measure() -> None:
    for number in itertools.count(1):
        sensor = random.choice(SENSORS)
        celsius = round(random.gauss(20, 5), 1)
        await server.hub.publish("readings", {"sensor": sensor, "celsius": celsius}, key=sensor)
        if number % 20 == 0:
            await server.hub.publish("alarms", f"alarm {number // 20}: look at the {sensor}", event="alarm")
        await trio.sleep(0.1)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"trio-sse tail http://127.0.0.1:{addresses[0][1]}/house", flush=True)
        await measure()


if __name__ == "__main__":
    trio.run(main)
