"""The console's paths put together: the page, the login, the stream and the actions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import final

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._http.response import Response
from .._pausing import in_pieces
from .._stream.connection import Connection
from .access import Access
from .actions import Actions
from .credentials import Credentials
from .feed import Feed
from .history import History
from .page import SECURITY_FIELDS, page_files
from .peers import AllowedPeers
from .places import Places
from .source import ConsoleSource

#: The path of the page; all others begin with it.
CONSOLE_PATH = "/_sse/"

_MOST_VIEWERS = 32

Endpoint = Callable[[Request], Awaitable[Response]]


@final
class Console:
    """The console of one server. It has no task, and does nothing while nobody watches.

    Attributes:
        feed: computes what viewers see.
        viewers: how many there are.
    """

    def __init__(self, source: ConsoleSource, token: str, peers: AllowedPeers, history: History) -> None:
        self._access = Access(Credentials(token), peers)
        self._actions = Actions(self._access, source)
        self.feed = Feed(source, history)
        self.viewers = Places(_MOST_VIEWERS, "viewers")

    def endpoints(self) -> list[tuple[str, str, Endpoint]]:
        """Return the paths that answer with a whole response: each with its method, and what answers."""
        access, actions = self._access, self._actions
        pages = [(name, partial(self._file, file)) for name, file in page_files().items()]
        return [
            (CONSOLE_PATH.rstrip("/"), "GET", self._redirect),
            *((CONSOLE_PATH + name, "GET", answer) for name, answer in pages),
            *(
                (CONSOLE_PATH + name, method, _secured(answer))
                for name, method, answer in (
                    ("login", "POST", access.log_in),
                    ("logout", "POST", access.log_out),
                    ("session", "GET", access.session),
                    ("publish", "POST", actions.publish),
                    ("end", "POST", actions.end),
                    ("drain", "POST", actions.drain),
                )
            ),
        ]

    def streams(self) -> list[tuple[str, str, Callable[[Connection], Awaitable[None]]]]:
        """Return the paths that answer with a stream: each with its method, and the handler."""
        return [
            (f"{CONSOLE_PATH}stream", "GET", self._stream),
            (f"{CONSOLE_PATH}watch", "POST", self._actions.watch),
        ]

    async def _stream(self, connection: Connection) -> None:
        """Send the charts' last minutes, and then a snapshot a second."""
        connection.expires_at = self._access.check(connection.request).expires_at
        with self.viewers.take():
            for name, value in SECURITY_FIELDS.items():
                connection.add_header(name, value)
            await connection.send(await in_pieces(self.feed.history()), event="history")
            seen = self.feed.begin()
            while True:
                seen = await self.feed.next(seen)
                await connection.send(self.feed.text, event="snapshot")

    async def _file(self, file: Response, request: Request) -> Response:
        self._access.check_client(request)
        return file

    async def _redirect(self, request: Request) -> Response:
        self._access.check_client(request)
        # Relative, as a proxy may have removed the beginning of the path.
        return Response(status=307, headers={"Location": CONSOLE_PATH.strip("/") + "/", **SECURITY_FIELDS})


def _secured(answer: Endpoint) -> Endpoint:
    """Return an endpoint whose refusals have the console's header fields, too."""

    async def secured(request: Request) -> Response:
        try:
            response = await answer(request)
        except HTTPException as error:
            error.headers.update(SECURITY_FIELDS)
            raise
        headers = dict(response.headers) if isinstance(response.headers, dict) else {}
        return Response(
            response.body,
            status=response.status,
            content_type=response.content_type,
            headers={**SECURITY_FIELDS, **headers},
        )

    return secured
