"""Run a job and a clock once among two nodes: `python -m examples.singleton_nodes`.

Each node is a server with its own hub on one SQLite log, as it would be in another process. Both call
`run_singleton` and `run_ticker`; one of them does the work. Follow either address with `trio-sse tail`. After
some seconds, the node that works ends, and the other one continues.
"""

import os
import tempfile
from pathlib import Path

import trio

from trio_sse import Connection, Hub, LogUnavailable, Server
from trio_sse.sqlite import SQLiteLog

PORT = int(os.environ.get("PORT", "8000"))
SECONDS = float(os.environ.get("SECONDS", "10"))


def make_node(path: Path) -> Server:
    node = Server(hub=Hub(log=SQLiteLog(path)))

    @node.route("/jobs")
    async def jobs(connection: Connection) -> None:
        await connection.subscribe("jobs", "clock")

    return node


async def work(node: Server, name: str) -> None:
    """Do the job of which there must be one; it is cancelled when the lease is lost."""
    number = 0
    while True:
        number += 1
        try:
            # A node that begins again after a failure publishes nothing twice.
            key = f"{name} {number}"
            await node.hub.publish("jobs", {"node": name, "job": number}, idempotency_key=key)
        except LogUnavailable as error:
            print(f"job {number}: {error}", flush=True)
        await trio.sleep(1)


async def run_node(node: Server, name: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(node.serve, "127.0.0.1", port)
        print(f"http://127.0.0.1:{addresses[0][1]}/jobs", flush=True)
        nursery.start_soon(node.hub.run_singleton, "jobs", work, node, name)
        nursery.start_soon(node.hub.run_ticker, "clock")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        nodes = [make_node(Path(folder) / "log.db") for _ in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_node, nodes[1], "second", PORT and PORT + 1)
            with trio.move_on_after(SECONDS):
                await run_node(nodes[0], "first", PORT)
            print("the first node has ended", flush=True)


if __name__ == "__main__":
    trio.run(main)
