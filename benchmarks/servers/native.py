"""trio_sse's own server with default settings, in its own process: the subject of all benchmarks.

Run it by hand with `python -m benchmarks.servers.native`; `harness/control.py` lists the commands.
"""

from __future__ import annotations

import argparse
import ssl
import sys
from functools import partial
from itertools import combinations, islice

import trio

from benchmarks.harness.control import DATA, LIVE, Gate, serve_with_control
from benchmarks.servers import monitoring
from benchmarks.servers.console_token import TOKEN
from trio_sse import Connection, EndReason, Hub, Server, tune_garbage_collector
from trio_sse._hub.hub import engine_of
from trio_sse.redis import RedisLog

hub = Hub(tracing=monitoring.make_tracing() if "--tracing" in sys.argv else None)
server = Server(hub=hub, max_connections=40_000)
gate = Gate()


@server.route("/updates")
async def updates(connection: Connection) -> None:
    await connection.subscribe(LIVE)


@server.route("/topics/{topic}")
async def topics(connection: Connection, topic: str) -> None:
    await connection.subscribe(topic)


@server.route("/first/{count:int}")
async def first(connection: Connection, count: int) -> None:
    await connection.subscribe(*(f"{topic}" for topic in range(count)))


@server.route("/different/{number:int}")
async def different(connection: Connection, number: int) -> None:
    """Subscribe to four of 16 topics: 1,820 streams have different sets, which overlap."""
    chosen = next(islice(combinations(range(16), 4), number % 1820, None))
    await connection.subscribe(*(f"{topic}" for topic in chosen))


@server.route("/throttled/{number:int}")
async def throttled(connection: Connection, number: int) -> None:
    """Subscribe with a batch to a topic that all have, and to one that nobody else has."""
    await connection.subscribe(LIVE, f"user/{number}", batch=0.5)


@server.route("/own")
async def own(connection: Connection) -> None:
    await connection.start()
    sent = 0
    while True:
        for _ in range(await gate.wait()):
            sent += 1
            await connection.send(DATA, id=f"{sent}")


def disconnect_all() -> None:
    for stream in list(server._manager.streams):
        stream.end(EndReason.RECONNECT)


async def publish(data: str, topic: str) -> None:
    if engine_of(hub).sequencer.is_shared:
        # `publish` would wait for each event to be stored, so there would be no burst.
        hub.publish_nowait(topic, data)
    else:
        await hub.publish(topic, data)


async def start(nursery: trio.Nursery, *, tls: ssl.SSLContext | None = None) -> int:
    addresses = await nursery.start(partial(server.serve, "127.0.0.1", 0, ssl_context=tls))
    return int(addresses[0][1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    parser.add_argument("--http2", action="store_true", help="allow HTTP/2 without TLS")
    parser.add_argument("--monitoring", action="store_true", help="log each stream, and have metrics")
    parser.add_argument("--tracing", action="store_true", help="trace one stream and publish in a hundred")
    parser.add_argument("--console", action="store_true", help=f"have a console; its token is {TOKEN}")
    parser.add_argument("--log", metavar="URL", help="use a log on Redis")
    arguments = parser.parse_args()
    files = arguments.tls
    if arguments.log is not None:
        engine_of(hub).use_log(RedisLog(arguments.log))
    if arguments.http2:
        server.configure(http2_cleartext=True)
    if arguments.monitoring:
        monitoring.set_up(server)
    if arguments.console:
        server.configure(console=True, console_token=TOKEN)
    tls = None
    if files is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*files)
    tune_garbage_collector()  # as `trio-sse serve` does
    starting: monitoring.Start = partial(start, tls=tls)
    if arguments.monitoring:
        starting = monitoring.scraped(starting)
    trio.run(partial(serve_with_control, starting, publish, gate=gate, disconnect_all=disconnect_all))


if __name__ == "__main__":
    main()
