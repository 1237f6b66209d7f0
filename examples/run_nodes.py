"""Run a job that outlives its node: `python -m examples.run_nodes`.

Each node is a server with its own hub on one SQLite log, as it would be in another process. Follow the job on
either address with `trio-sse tail`; the first request starts it. After some seconds, the first node ends, and
the other one goes on with the job from its last checkpoint.
"""

import os
import tempfile
from pathlib import Path

import trio

from trio_sse import Connection, Hub, Run, Runs, Server
from trio_sse.sqlite import SQLiteLog

PORT = int(os.environ.get("PORT", "8000"))
SECONDS = float(os.environ.get("SECONDS", "10"))
UPTO = int(os.environ.get("UPTO", "40"))


def make_node(path: Path) -> Server:
    node = Server(hub=Hub(log=SQLiteLog(path)))
    runs = Runs(node.hub, drain_timeout=0.1)

    @runs.resumable(name="count")
    async def count(run: Run, upto: int) -> str:
        for number in range(run.checkpoint_value or 0, upto):
            await run.append(f"{number} ")
            await run.checkpoint(number + 1)
            await trio.sleep(0.5)
        return f"counted by {run.attempt} nodes"

    @node.route("/count")
    async def show(connection: Connection) -> None:
        run = await runs.start(count, UPTO, key="count")
        await run.stream(connection)

    return node


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        nodes = [make_node(Path(folder) / "log.db") for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for offset, node in enumerate(nodes):
                addresses = await nursery.start(node.serve, "127.0.0.1", PORT and PORT + offset)
                print(f"http://127.0.0.1:{addresses[0][1]}/count", flush=True)
            await trio.sleep(SECONDS)
            await nodes[0].drain()
            print("the first node has ended", flush=True)


if __name__ == "__main__":
    trio.run(main)
