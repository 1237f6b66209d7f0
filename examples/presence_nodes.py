"""Show who is there on two nodes: `python -m examples.presence_nodes`.

Two servers share a log, as in two processes or on two machines: an SQLite file, or Redis if REDIS_URL is set.
Open both pages, each in a window or two. Every page shows the names of all windows, whichever server they are
connected to; close a window, or end one of several workers, and its name leaves.
"""

import os
import tempfile

import trio

from trio_sse import Connection, HTTPException, Hub, Log, Request, Response, Server, client_script

PORT = int(os.environ.get("PORT", "8000"))
REDIS_URL = os.environ.get("REDIS_URL")

PAGE = """<!doctype html><meta charset="utf-8"><title>Who is here</title>
<h1>Who is here</h1><ul id="names"></ul>
<script src="/trio-sse.js"></script>
<script>
const name = "guest " + Math.floor(Math.random() * 1000);
TrioSSE.state("/room?name=" + encodeURIComponent(name), (members) => {
  names.replaceChildren(...Object.entries(members).map(([name, { node }]) => {
    const item = document.createElement("li");
    item.textContent = `${name} (node ${node})`;
    return item;
  }));
});
</script>"""


def make_log(path: str) -> Log:
    if REDIS_URL:
        from trio_sse.redis import RedisLog

        return RedisLog(REDIS_URL, prefix="presence")
    from trio_sse.sqlite import SQLiteLog

    return SQLiteLog(path)


def make_node(number: int, log: Log) -> Server:
    node = Server(hub=Hub(log=log))
    room = node.hub.presence("room", ttl=10)

    @node.endpoint("/")
    async def page(request: Request) -> Response:
        return Response(PAGE, content_type="text/html; charset=utf-8")

    @node.endpoint("/trio-sse.js")
    async def script(request: Request) -> Response:
        return Response(client_script(), content_type="text/javascript; charset=utf-8")

    @node.route("/room")
    async def enter(connection: Connection) -> None:
        name = connection.request.query.get("name", "").strip()[:40]
        if not name:
            raise HTTPException(400, "a name is required")
        async with room.join(name, {"node": number}):
            await connection.subscribe("room")

    return node


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        nodes = [make_node(number, make_log(f"{folder}/log.db")) for number in (1, 2)]
        async with trio.open_nursery() as nursery:
            for offset, node in enumerate(nodes):
                addresses = await nursery.start(node.serve, "127.0.0.1", PORT and PORT + offset)
                print(f"http://127.0.0.1:{addresses[0][1]}/", flush=True)


if __name__ == "__main__":
    trio.run(main)
