"""The guard of a WebSocket's handshake on hypercorn."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from trio_sse._asgi.websocket_guard import WebSocketGuard


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_a_denial_is_nothing_that_accepts(http_version: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nobody asks")

    async def send(message: Any) -> None:
        sent.append(message["status"])

    guard = WebSocketGuard({"http_version": http_version}, receive, send)
    for status in (200, 204, 302, 403):
        refuses = http_version == "2" and status < 300
        with pytest.raises(ValueError, match="that accepts it") if refuses else nullcontext():
            await guard.send({"type": "websocket.http.response.start", "status": status, "headers": []})
    assert sent == ([302, 403] if http_version == "2" else [200, 204, 302, 403])
