"""The runs of one conversation, which clients find by its id: they do not know those of its runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

from .._http.exceptions import HTTPException
from .._http.response import Response
from .._runs.routes import OwnerOf, owner_of
from .._runs.runs import Runs
from .._runs.view import RunView
from .._stream.connection import Connection
from ._protocol import RunFunction, RunStarter, Translation, check_whole, show

_LONGEST = 256


@final
class Conversations:
    """Starts runs of conversations, shows the newest one of each, and stops them.

    A run's owner is who has sent the request, and the conversation.

    Args:
        name: that of the adapter, as for `RunStarter`.
        owner: returns who has sent a request, by default `Connection.identity`.
    """

    def __init__(self, runs: Runs, function: RunFunction, name: str, owner: OwnerOf | None) -> None:
        self._runs = runs
        self._starter = RunStarter(runs, function, name)
        self._owner = owner

    async def start(
        self,
        connection: Connection,
        id: str,
        body: Mapping[str, Any],
        facts: Mapping[str, Any],
        key: str | None = None,
    ) -> RunView:
        """Start a run of a conversation; raise what `RunStarter.start` raises."""
        return await self._starter.start(body, facts, owner=self._owner_of(connection, id), key=key)

    async def resume(
        self, connection: Connection, id: str, translation: Callable[[str], Translation]
    ) -> Response | None:
        """Show the newest run that goes on; return a response of 204 if there is none."""
        running = await self._running(connection, id)
        if not running:
            return Response(status=204)
        await show(running[-1], connection, translation(running[-1].id))
        return None

    async def stop(self, connection: Connection, id: str) -> Response:
        """Cancel all runs that go on."""
        for view in await self._running(connection, id):
            await view.cancel()
        return Response(status=204)

    async def _running(self, connection: Connection, id: str) -> list[RunView]:
        infos = await self._runs.list(owner=self._owner_of(connection, id))
        return [self._runs.get(info.id) for info in infos if not info.status.is_end]

    def _owner_of(self, connection: Connection, id: str) -> str:
        return owner_of_conversation(owner_of(connection, self._owner), id)


def owner_of_conversation(who: str | None, id: str) -> str:
    """Return the owner of a conversation's runs; raises `HTTPException` if its id is too long.

    What comes before the first slash says who it is, whatever characters their names have.
    """
    name = "" if who is None else "=" + who.replace("%", "%25").replace("/", "%2F")
    owner = f"{name}/{id}"
    if len(owner) > _LONGEST:
        raise HTTPException(400, "the conversation's id is too long")
    check_whole("the conversation's id", owner)
    return owner
