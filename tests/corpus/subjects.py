"""The servers that receive the cases, with handlers that take every path and note what reaches them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from trio_sse import Connection, Request, Response, Server
from trio_sse.websocket import WebSocketConnection

from ..support.asgi_apps import Receive, Send, answer

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

#: The kinds of handlers that a server has.
KINDS = ("route", "endpoint", "app", "poll", "websocket", "upgrade")

#: The number of the connection that the present task serves.
connection_number: ContextVar[int] = ContextVar("connection_number")


class Subject:
    """A server.

    Attributes:
        entered: how often a handler was called, by the number of the connection.
        paths: the paths of these calls.
    """

    def __init__(self, host: str, make_server: Callable[..., Server], **options: Any) -> None:
        self.entered: Counter[int] = Counter()
        self.paths: list[str] = []
        self.server = make_server(**({"app": self._app} if host == "app" else {}), **options)
        self._add_own()
        if host in ("route", "poll"):
            self._add_streams()
        elif host == "endpoint":
            self._add_endpoints()
        elif host == "websocket":
            self._add_websockets()
        elif host == "upgrade":
            self._add_one_of_each()

    def _note(self, path: str) -> None:
        self.entered[connection_number.get()] += 1
        self.paths.append(path)

    def _add_own(self) -> None:
        """Add what only the test asks for."""

        @self.server.endpoint("/after")
        async def after(request: Request) -> Response:
            return Response("after")

        @self.server.route("/bystander")
        async def bystander(connection: Connection) -> None:
            await connection.subscribe("bystander")

    def _add_streams(self) -> None:
        @self.server.route("/topics/{topic}", methods=["GET"])
        async def topics(connection: Connection, topic: str) -> None:
            self._note("/topics")
            await connection.subscribe(topic)

        @self.server.route("/", methods=METHODS)
        @self.server.route("/{rest:path}", methods=METHODS)
        async def stream(connection: Connection, rest: str = "") -> None:
            self._note(rest)
            await connection.send("streamed")

    def _add_endpoints(self) -> None:
        @self.server.endpoint("/", methods=METHODS)
        @self.server.endpoint("/{rest:path}", methods=METHODS)
        async def endpoint(request: Request, rest: str = "") -> Response:
            self._note(rest)
            return Response("answered")

    def _add_websockets(self) -> None:
        @self.server.websocket("/", subprotocols=["chat"])
        @self.server.websocket("/{rest:path}", subprotocols=["chat"])
        async def websocket(connection: WebSocketConnection, rest: str = "") -> None:
            self._note(rest)
            async for _ in connection:
                pass

    def _add_one_of_each(self) -> None:
        @self.server.websocket("/ws", subprotocols=["chat"], origins=["http://friend.example"])
        async def websocket(connection: WebSocketConnection) -> None:
            self._note("/ws")
            async for _ in connection:
                pass

        @self.server.route("/stream")
        async def stream(connection: Connection) -> None:
            self._note("/stream")
            await connection.send("streamed")

        @self.server.endpoint("/endpoint")
        async def endpoint(request: Request) -> Response:
            self._note("/endpoint")
            return Response("answered")

    async def _app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] != "lifespan", "no lifespan here"
        if scope["type"] == "websocket":
            self._note(scope["path"])
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        goes_on = True
        while goes_on:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            goes_on = message["more_body"]
        self._note(scope["path"])
        await answer(send, b"answered")
