"""A client of the console, which sends what its page or `trio-sse top` would."""

from __future__ import annotations

import json
from typing import Any

from .client import Client, Head
from .serving import OnSockets

TOKEN = "a-token-for-tests-only"
BEARER = f"Authorization: Bearer {TOKEN}"


async def ask(
    running: OnSockets,
    path: str,
    *lines: str,
    method: str = "GET",
    body: object = None,
) -> tuple[Head, str]:
    """Send a request for one of the console's paths; return the response's head and body."""
    async with await running.connect() as client:
        head = await send(client, path, *lines, method=method, body=body)
        return head, (await client.sized_body(head) if method != "HEAD" else b"").decode()


async def send(client: Client, path: str, *lines: str, method: str = "GET", body: object = None) -> Head:
    """Send a request on a connection; return the response's head."""
    if body is None:
        return await client.get(f"/_sse{path}", *lines, method=method)
    text = body if isinstance(body, str) else json.dumps(body)
    kind = (
        () if any(line.startswith("Content-Type") for line in lines) else ("Content-Type: application/json",)
    )
    await client.send(
        "\r\n".join(
            [
                f"{method} /_sse{path} HTTP/1.1",
                "Host: test",
                f"Content-Length: {len(text.encode())}",
                *kind,
                *lines,
                "",
                text,
            ]
        ).encode()
    )
    return await client.head()


async def post(running: OnSockets, path: str, body: object, *lines: str) -> tuple[int, str]:
    """Do something with the token; return the response's status and body."""
    head, text = await ask(running, path, BEARER, *lines, method="POST", body=body)
    return head.status, text


async def log_in(running: OnSockets) -> tuple[str, str]:
    """Log in; return the lines of the cookie and of the CSRF token."""
    head, text = await ask(running, "/login", method="POST", body={"token": TOKEN})
    assert head.status == 200, text
    cookie = (head.get("Set-Cookie") or "").partition(";")[0]
    return f"Cookie: {cookie}", f"X-CSRF-Token: {json.loads(text)['csrf']}"


async def next_snapshot(client: Client) -> dict[str, Any]:
    """Wait for the next snapshot of a stream."""
    while True:
        event = await client.event()
        if event.event == "snapshot":
            snapshot: dict[str, Any] = json.loads(str(event.data))
            return snapshot
