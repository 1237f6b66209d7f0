"""Presence lists: states whose members stay as long as somebody is there, on any node."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import final

import trio

from .._containment import contained
from .._shared_log.protocol import LogUnavailable
from .._wire.json_text import compact_json
from .presence_table import PresenceTable
from .state import State, change_state
from .writer import StateConflict


@final
class Presence:
    """Who or what is there: a state of members by their names; created by `Hub.presence`.

    Subscribers of its topic receive a snapshot, and then every member that joins, changes or leaves, as for
    any state. With a shared log, all hubs that declare it show the same members. A member whose node has
    died, or is cut off from the log, leaves after its `ttl`.

    Attributes:
        topic: the topic's name.
        ttl: how many seconds a member stays without a sign of life.
    """

    def __init__(self, state: State, table: PresenceTable, wake: Callable[[], None], report: Report) -> None:
        self.topic = state.topic
        self.ttl = table.ttl
        self._state = state
        self._table = table
        self._wake = wake
        self._report = report

    @property
    def members(self) -> dict[str, object]:
        """A copy of the members, by their names."""
        return members_of(self._state)

    def join(self, name: str, value: object = True) -> AbstractAsyncContextManager[None]:
        """Return a context manager: the member is there while the context is entered.

        One name may join several times, on any nodes, for example a user with several tabs: the member stays
        until the last one has left, with the value that was given last. The errors are raised on entering it.

        Args:
            value: what is shown of the member, any JSON value.

        Raises:
            TypeError, ValueError: the name is not a string, the value is not a JSON value, or the members are
                larger than an event may be.
            RuntimeError, trio.ClosedResourceError, LogUnavailable, StateConflict: as `State.update`.
        """
        return self._join(name, value)

    @asynccontextmanager
    async def _join(self, name: str, value: object) -> AsyncIterator[None]:
        table = self._table
        table.hold(name, value)
        try:
            await self._state.update({name: value})
            self._report(table.topic, [name])  # also the nodes where the same name leaves
            yield
        finally:
            table.release(name, value)
            self._wake()

    async def touch(self, name: str, value: object = True) -> None:
        """Add a member for `ttl` seconds, or prolong its stay, for example at each request of a client.

        Raises:
            TypeError, ValueError, RuntimeError, trio.ClosedResourceError, LogUnavailable, StateConflict: as
                `join`.
        """
        await self._state.update({name: value})
        self._table.touch(name)
        self._report(self._table.topic, [name])
        self._wake()

    async def remove(self, name: str) -> None:
        """Remove a member that was added by `touch`, if it is there; raise what `touch` raises."""
        self._table.forget(name)
        await change_state(self._state, lambda text: without(text, lambda member: member == name))

    def close(self) -> None:
        """Turn the topic into an ordinary one on this node, as `State.close` does."""
        self._state.close()
        self._wake()

    async def settle(self) -> None:
        """Make the state what the table says; only the hub calls this."""
        table = self._table
        if self._state.is_closed:
            return
        members, leaving = self.members, set(table.leaving)
        table.see(members)
        with (
            contained(f"the members of {self.topic!r} could not be brought up to date"),
            suppress(LogUnavailable, StateConflict, trio.ClosedResourceError),  # it is tried again
        ):
            while changed := table.changed(members):
                await self._state.update(changed)
                members = self.members
            if any(map(table.is_over, members)):
                await change_state(self._state, lambda text: without(text, table.is_over))
            table.leaving -= leaving


#: Reports to the other nodes that these names are present.
Report = Callable[[str, list[str]], None]


def members_of(state: State) -> dict[str, object]:
    """Return the members of a state that is a presence list."""
    value = state.value
    return value if isinstance(value, dict) else {}


def without(text: str, is_over: Callable[[str], bool]) -> str:
    """Return a state without those of its members."""
    value: object = json.loads(text)
    if not isinstance(value, dict) or not any(map(is_over, value)):
        return text
    kept = {name: member for name, member in value.items() if not is_over(name)}
    return compact_json(kept)
