"""The app of the benchmarks with workers: `trio-sse serve benchmarks.scaled_app:server --workers N --log
URL`."""

from __future__ import annotations

from trio_sse import Connection, Hub, Server

# Ends a thousand streams a second, so a full worker takes some twenty seconds to drain.
server = Server(hub=Hub(), max_connections=20_000, drain_timeout=60)


@server.route("/updates")
async def updates(connection: Connection) -> None:
    await connection.subscribe("live")
