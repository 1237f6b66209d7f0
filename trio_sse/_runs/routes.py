"""Three handlers that start, join and cancel runs, for the routes of any host.

They serve `TrioSSE.run(url)` of the client script, which posts to `url`, joins at `url/ID`, and cancels by a
POST to `url/ID/cancel`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._http.response import Response
from .._stream.connection import Connection
from .._stream.whole_body import needs_body
from .errors import RunGone
from .run import Run
from .runs import Runs
from .strict_json import parse_json
from .view import RunView

#: A run's function, which takes what the request's body is: a JSON value, or a text.
BodyFunction = Callable[[Run, Any], Awaitable[object]]

#: Returns whose run a request is about; `None` for nobody's. It may raise `HTTPException`.
OwnerOf = Callable[[Request], str | None]


@final
class RunRoutes:
    """Handlers for runs of one function.

    Args:
        runs: what starts and keeps the runs.
        function: a coroutine function of the run and the request's body.
        owner: returns whose run a request is about, by default `Connection.identity`. A run of somebody can
            be joined and cancelled by requests of the same owner; of others, it is as if there were none.
        in_order: as for `RunView.stream`.
    """

    def __init__(
        self, runs: Runs, function: BodyFunction, *, owner: OwnerOf | None = None, in_order: bool = False
    ) -> None:
        self._runs = runs
        self._function = function
        self._owner = owner
        self._in_order = in_order

    @needs_body
    async def start(self, connection: Connection) -> None:
        """Start a run with the request's body, and stream it."""
        owner = owner_of(connection, self._owner)
        view = await self._runs.start(self._function, value_of(connection.request), owner=owner)
        await view.stream(connection, in_order=self._in_order)

    async def join(self, connection: Connection, id: str | None = None) -> None:
        """Stream a run from where the client is. Without a path parameter, its id is the query's `id`."""
        await (await self._find(connection, id)).stream(connection, in_order=self._in_order)

    async def cancel(self, connection: Connection, id: str | None = None) -> Response:
        """Cancel a run for all who follow it."""
        await (await self._find(connection, id)).cancel()
        return Response(status=204)

    async def _find(self, connection: Connection, id: str | None) -> RunView:
        if id is None:
            id = connection.request.query.get("id", "")
        return await owned_view(self._runs, id, owner_of(connection, self._owner))


def owner_of(connection: Connection, owner: OwnerOf | None) -> str | None:
    """Return whose run a request is about."""
    return connection.identity if owner is None else owner(connection.request)


async def owned_view(runs: Runs, id: str, owner: str | None) -> RunView:
    """Return a run of this owner, or of nobody; raises `RunGone` if there is none."""
    view = runs.get(id)
    if (await view.info()).owner not in (None, owner):
        raise RunGone
    return view


def value_of(request: Request) -> object:
    """Return a request's body: a JSON value if its type says so, or a text.

    Raises:
        HTTPException: it is not what its type says.
    """
    kind = (request.headers.get("content-type") or "").partition(";")[0].strip(" \t").lower()
    try:
        text = request.body.decode()
        value: object = parse_json(text) if kind == "application/json" else text
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is neither JSON nor text, or is too deep") from None
    return value
