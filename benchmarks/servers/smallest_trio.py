"""The smallest Trio server that answers an app's requests at all: the floor for `benchmarks.apps`.

It has one task for each connection, which waits until the socket is readable, receives, calls the app and
sends the answer at once. It parses nothing but the path: all else in the scope is fixed. It checks, bounds
and notices nothing either, so no server on Trio can be faster by much.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import trio

_HEADERS = [(b"host", b"127.0.0.1"), (b"accept", b"*/*")]
_ADDRESS = ("127.0.0.1", 80)


def scope_of(path: str) -> dict[str, Any]:
    """Return the scope of a GET."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("ascii"),
        "query_string": b"",
        "root_path": "",
        "headers": _HEADERS,
        "client": _ADDRESS,
        "server": _ADDRESS,
        "state": {},
        "extensions": {},
    }


class _Call:
    """The `receive` and `send` of one request, which has no body."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._has_received = False
        self._head = b""

    async def receive(self) -> dict[str, Any]:
        if self._has_received:
            await trio.sleep_forever()
        self._has_received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            fields = b"".join([b"%b: %b\r\n" % field for field in message["headers"]])
            self._head = b"HTTP/1.1 %d OK\r\n%b\r\n" % (message["status"], fields)
        else:
            payload, self._head = self._head + message.get("body", b""), b""
            if payload:
                with suppress(OSError):  # the load has stopped
                    self._connection.send(payload)


async def _serve_connection(app: Any, connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while True:
            await trio.lowlevel.wait_readable(connection)
            request = connection.recv(65536)
            if not request:
                return
            call = _Call(connection)
            path = request.split(b" ", 2)[1].decode("ascii")
            await app(scope_of(path), call.receive, call.send)


async def start(app: Any, nursery: trio.Nursery) -> int:
    """Serve an app in a nursery, and return the port."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listening.setblocking(False)

    async def accept() -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            connection, _ = listening.accept()
            connection.setblocking(False)
            nursery.start_soon(_serve_connection, app, connection)

    nursery.start_soon(accept)
    return int(listening.getsockname()[1])
