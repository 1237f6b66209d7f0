"""An app with streams."""

from __future__ import annotations

from typing import Any

from quart_trio import QuartTrio

from trio_sse import EndReason, Server
from trio_sse.quart import QuartSSE
from trio_sse.testing import Client

from .leaks import LeakCheck


class App:
    """An app with streams, and what became of them."""

    def __init__(self, no_leak: LeakCheck, **options: Any) -> None:
        self.app = QuartTrio(__name__)
        self.app.secret_key = "a secret"
        self.sse = QuartSSE(self.app, **options)
        self.ends: list[EndReason | None] = []
        self.sse.on_disconnect(lambda connection: self.ends.append(connection.end_reason))
        self.server = no_leak.watch(Server(self.app, hub=no_leak.watch_hub(self.sse.hub)))

    def client(self, **options: Any) -> Client:
        return Client(self.server, **options)


async def data_of(client: Client, path: str, **options: Any) -> list[object]:
    """Read a stream to its end."""
    async with client.stream(path, **options) as stream:
        await stream.wait_over()
        assert stream.is_ended, stream.body
        return [event.data for event in stream.events_nowait()]
