"""An app whose streams do not end by themselves."""

from __future__ import annotations

import trio
from quart_trio import QuartTrio

from trio_sse import Connection
from trio_sse.quart import QuartSSE

app = QuartTrio(__name__)
sse = QuartSSE(app, drain_timeout=20)


@sse.route("/flood")
async def flood(connection: Connection) -> None:
    """Send more than all buffers on the way hold."""
    while True:
        await connection.send("x" * 100_000)


@sse.route("/stubborn")
async def stubborn(connection: Connection) -> None:
    """Take long to end."""
    await connection.send("one")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 3):
            await trio.sleep_forever()
