"""Serve the pages of the examples, with their script and style."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from trio_sse import Connection, Request, Response, Runs, Server, client_script

PORT = int(os.environ.get("PORT", "8000"))
FOLDER = Path(__file__).parent
VENDOR = FOLDER.parent / "vendor"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def add_pages(server: Server, page: str, *vendored: str) -> None:
    """Serve `page` at the root, and the style, the JavaScript client and files of `vendor` next to it."""
    files = {"/": FOLDER / page, "/style.css": FOLDER / "style.css"}
    files |= {f"/{name}": VENDOR / name for name in vendored}
    for path, file in files.items():
        server.endpoint(path)(_answer(file.read_text("utf-8"), _TYPES[file.suffix]))
    server.endpoint("/trio-sse.js")(_answer(client_script(), _TYPES[".js"]))


def add_runs(server: Server, runs: Runs, path: str) -> None:
    """Let a page join and cancel runs where `TrioSSE.run(path)` does: at their ids below `path`."""

    @server.route(f"{path}/{{id}}")
    async def join(connection: Connection, id: str) -> None:
        await runs.get(id).stream(connection)

    @server.endpoint(f"{path}/{{id}}/cancel", methods=["POST"])
    async def cancel(request: Request, id: str) -> Response:
        await runs.get(id).cancel()
        return Response("")


def _answer(text: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(text, content_type=f"{kind}; charset=utf-8")

    return answer


async def serve(server: Server, *tasks: Callable[[], Awaitable[None]]) -> None:
    """Serve on PORT and run tasks next to the server, until interrupted."""
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"http://127.0.0.1:{addresses[0][1]}", flush=True)
        for task in tasks:
            nursery.start_soon(task)
