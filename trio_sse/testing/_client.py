"""A client of a server or an app, in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from types import TracebackType
from typing import final

import h11

from .._asgi.types import ASGIApp
from .._http.request import Headers
from .._server.server import Server
from .._wire.decoder import EventDecoder
from ._served import ServedInMemory
from ._stream import Stream, open_stream


@final
@dataclass(frozen=True, slots=True)
class ClientResponse:
    """A whole response.

    Attributes:
        is_cut: the server has truncated it, so the body is incomplete.
    """

    status: int
    headers: Headers
    body: bytes
    is_cut: bool = field(default=False, kw_only=True)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> object:
        """Parse the body as JSON."""
        return json.loads(self.body)


@final
class Client:
    """A client of a `Server`, or of any ASGI app, for which it creates a server.

    Entering its context starts the server and the app; leaving it cancels them, so all streams end. The
    client stores the cookies that it receives, and sends them with later requests.

    Args:
        app: a `trio_sse.Server` or an ASGI app.
        timeout: seconds within which everything that a test waits for must arrive.
        headers: header fields of all requests.
    """

    __test__ = False

    def __init__(
        self, app: Server | ASGIApp, *, timeout: float = 30.0, headers: Mapping[str, str] | None = None
    ) -> None:
        self.server = app if isinstance(app, Server) else Server(app)
        self.cookies: dict[str, str] = {}
        self._timeout = timeout
        self._headers = dict(headers or {})
        self._served = ServedInMemory(self.server)

    async def __aenter__(self) -> Client:
        await self._served.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._served.end(kind, error, traceback)

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> ClientResponse:
        """Request a whole response; see `request`."""
        return await self.request("GET", path, headers=headers)

    async def post(
        self, path: str, *, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """Request a whole response; see `request`."""
        return await self.request("POST", path, body=body, headers=headers)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
    ) -> ClientResponse:
        """Send a request and return the whole response.

        Raises:
            trio.TooSlowError: it does not end in time; an event stream usually does not.
        """
        async with self.stream(path, method=method, headers=headers, body=body) as stream:
            await stream.wait_over()
            return ClientResponse(stream.status, stream.headers, stream.body, is_cut=stream.is_cut)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        method: str = "GET",
        last_event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
    ) -> AsyncIterator[Stream]:
        """Open an event stream, or any other response; leaving the context closes the connection.

        Raises:
            trio.TooSlowError: the response's head does not arrive in time.
        """
        data = body.encode() if isinstance(body, str) else body
        fields = {"Host": "test", **self._headers, **(headers or {}), "Connection": "close"}
        if data or method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(len(data))
        if last_event_id is not None:
            fields["Last-Event-ID"] = last_event_id
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        encoded = [(name.encode(), value.encode()) for name, value in fields.items()]  # UTF-8, as browsers do
        request = h11.Request(method=method, target=path, headers=encoded)
        decoder = EventDecoder(last_event_id=last_event_id or "")
        async with open_stream(self._served.connect(), request, data, decoder, self._timeout) as opened:
            self._keep_cookies(opened.headers)
            yield opened

    def _keep_cookies(self, headers: Headers) -> None:
        for value in headers.get_all("set-cookie"):
            for name, morsel in SimpleCookie(value).items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)


def served_by(client: Client) -> ServedInMemory:
    """Return the server's side of a client, for the other modules of this package."""
    return client._served
