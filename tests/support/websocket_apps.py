"""ASGI apps of WebSockets: one that runs a script, and one that records what it receives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from .asgi_apps import Receive, Send, accept, websocket_only

Script = Callable[[Receive, Send], Awaitable[None]]
Event = dict[str, Any]


def app_of(script: Script) -> Any:
    """Return an app that runs the script for each WebSocket, whatever its scope."""

    @websocket_only
    async def app(scope: Event, receive: Receive, send: Send) -> None:
        await script(receive, send)

    return app


class Recorder:
    """An app that accepts, and records what it receives up to the disconnect."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.app = app_of(self.record)
        self.ended = trio.Event()

    async def record(self, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        while not self.events or self.events[-1]["type"] != "websocket.disconnect":
            self.events.append(await receive())
        self.ended.set()

    @property
    def end(self) -> tuple[int, str]:
        """The code and reason of the disconnect."""
        last = self.events[-1]
        assert last["type"] == "websocket.disconnect"
        return last["code"], last["reason"]
