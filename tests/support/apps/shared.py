"""A stream that pages of one other origin may read; TEST_ORIGIN says of which."""

from __future__ import annotations

import os

from trio_sse import Connection, Server

server = Server(cors_origins=[os.environ["TEST_ORIGIN"]], cors_credentials=True)


@server.route("/hello")
async def hello(connection: Connection) -> None:
    """Greet."""
    await connection.send("hello")
