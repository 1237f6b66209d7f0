"""Show the progress of a job that hashes files in a thread: `python -m examples.progress`.

The thread publishes after each file. A page receives at most one update of each job every 0.1 s, and always
the last one.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from itertools import count
from pathlib import Path

import trio

from examples.pages import add_pages, serve
from trio_sse import Connection, Request, Response, Server

FOLDER = Path(os.__file__).parent

server = Server()
numbers = count(1)


def hash_files(job: str) -> None:
    """Hash files and publish the progress. It runs in a thread."""
    files = sorted(FOLDER.glob("*/*.py"))
    digest, size = hashlib.sha256(), 0
    for number, file in enumerate(files, 1):
        data = file.read_bytes()
        digest.update(data)
        size += len(data)
        publish(job, {"done": number, "of": len(files), "bytes": size, "file": str(file.relative_to(FOLDER))})
    publish(job, {"done": len(files), "of": len(files), "bytes": size, "digest": digest.hexdigest()})


def publish(job: str, progress: dict[str, object]) -> None:
    """Publish from the thread. It waits while the hub's inbox is full."""
    data = {"job": job, **progress}
    trio.from_thread.run(partial(server.hub.publish, "progress", data, event="progress", key=job))


@server.route("/progress")
async def progress(connection: Connection) -> None:
    await connection.subscribe("progress", interval=0.1)


async def main() -> None:
    send, receive = trio.open_memory_channel[str](10)

    @server.endpoint("/jobs", methods=["POST"])
    async def start(request: Request) -> Response:
        await send.send(job := f"Job {next(numbers)}")
        return Response(job, status=202)

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            async for job in receive:
                nursery.start_soon(trio.to_thread.run_sync, hash_files, job)

    await serve(server, work)


if __name__ == "__main__":
    add_pages(server, "progress.html")
    trio.run(main)
