"""State topics: a value that all subscribers see, first as a snapshot and then as changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeVarTuple, final

import trio

from .._wire.message import Message
from .topic import StateTopic
from .writer import StateRequest, StateWriter

Ts = TypeVarTuple("Ts")

#: What `State.update` accepts: members, or a function that returns them for the value.
Changes = Mapping[str, object] | Callable[[dict[str, Any]], Mapping[str, object]]


class Inbox(Protocol):
    """What a state needs of its hub's inbox."""

    def check_open(self) -> None:
        """Raise the error that says why nothing can be published, unless it is open."""

    def check_thread(self) -> None:
        """Raise `RuntimeError` if the hub runs in another thread."""

    def no_turn(self) -> AbstractContextManager[None]:
        """Run code of the application while it has no turn of its own."""

    def check_room(self) -> None:
        """Raise `trio.WouldBlock` if there is room for no message."""

    def put_nowait(self, message: Message) -> None:
        """Add a message, or raise `trio.WouldBlock`."""

    def retry(self, put: Callable[[*Ts], None], *arguments: *Ts) -> Coroutine[Any, Any, None]:
        """Call `put`, waiting for room as long as it raises `trio.WouldBlock`."""


@final
class State:
    """One state topic; created by `Hub.state`.

    Nothing else may be published to its topic.

    With a shared log, every change goes through the log, and a call returns when this node has read it back.

    Attributes:
        topic: the topic's name.
        is_closed: `close` was called.
    """

    def __init__(
        self,
        state_topic: StateTopic,
        *,
        encode: Callable[[object], str],
        inbox: Inbox,
        close: Callable[[StateTopic], None],
    ) -> None:
        self.topic = state_topic.name
        self.is_closed = False
        self._state_topic = state_topic
        self._published = state_topic.text  # with the changes that are still in the inbox
        self._encode = encode
        self._inbox = inbox
        self._close = close
        self._writer: StateWriter | None = None  # with a shared log

    def share(self, writer: StateWriter) -> None:
        """Change the state by a shared log from now on; only the hub calls this."""
        self._writer = writer

    @property
    def value(self) -> object:
        """A copy of the state as it was last set; with a shared log, as this node has last read it."""
        value: object = json.loads(self._published if self._writer is None else self._state_topic.text)
        return value

    async def set(self, value: object) -> None:
        """Set the state to a JSON value and publish the change, waiting while the inbox is full.

        Nothing is published if nothing changes. If this is cancelled, the state is as before; with a shared
        log, it may have been changed. If two nodes set it at once, the one that is later in the log wins.

        Raises:
            TypeError, ValueError: it is not a JSON value, or is larger than an event may be.
            RuntimeError: the hub has never run.
            trio.ClosedResourceError: the hub has ended, or the state was closed.
            LogUnavailable: a shared log has not stored the change within its `publish_timeout`.
            EventRefused: the shared log never stores it, for example because it is too large.
        """
        self._inbox.check_thread()
        text = self._encode(value)
        if self._writer is None:
            await self._inbox.retry(self._publish, text)
        else:
            await self._put(self._writer, StateRequest(lambda old: text, is_whole=True))

    def set_nowait(self, value: object) -> None:
        """Set the state as `set` does, or raise `trio.WouldBlock` if the inbox is full.

        With a shared log, the change waits until it is stored, however long that takes.
        """
        self._inbox.check_thread()
        text = self._encode(value)
        if self._writer is None:
            self._publish(text)
        else:
            request = StateRequest(lambda old: text, is_whole=True, is_awaited=False)
            self._put_nowait(self._writer, request)

    def _publish(self, text: str) -> None:
        self._check_not_closed()
        if text == self._published:
            return
        self._inbox.check_room()  # before the patch is made, which may take long
        self._inbox.put_nowait(self._state_topic.change(self._published, text))
        self._state_topic.unplaced += 1
        self._published = text

    async def update(self, changes: Changes) -> None:
        """Set some members of a state that is an object, as `set` sets all of it.

        If two nodes update it at once, neither change is lost: the one that was second is made again, for the
        value that the first one has made.

        Args:
            changes: the members, or a function that returns them for the value. It must have no other
                effect, since it is called again after a conflict.

        Raises:
            TypeError: the state is not an object.
            StateConflict: other nodes have changed the state each time, 32 times.
        """
        self._inbox.check_thread()
        changes = self._checked(changes)
        if self._writer is None:
            await self._inbox.retry(self._update, changes)
        else:
            await self._put(self._writer, self._request(changes, is_awaited=True))

    def update_nowait(self, changes: Changes) -> None:
        """Set some members as `update` does, or raise `trio.WouldBlock` if the inbox is full."""
        self._inbox.check_thread()
        changes = self._checked(changes)
        if self._writer is None:
            self._update(changes)
        else:
            self._put_nowait(self._writer, self._request(changes, is_awaited=False))

    def _checked(self, changes: Changes) -> Changes:
        """Return what changes nothing later, whatever the caller does with it."""
        if callable(changes):
            return changes
        changes = dict(changes)
        if self._writer is not None:  # so that errors are raised at once
            self._encode(changes)
        return changes

    def _update(self, changes: Changes) -> None:
        self._inbox.check_room()  # before the state is decoded and encoded
        self._publish(self._updated(changes, self._published))

    def _updated(self, changes: Changes, text: str) -> str:
        value: object = json.loads(text)
        if not isinstance(value, dict):
            raise TypeError(f"only an object has members to update, and the state is {text[:40]}")
        if callable(changes):
            with self._inbox.no_turn():
                members = changes(value)
        else:
            members = changes
        return self._encode({**json.loads(text), **members})

    def _check_not_closed(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError(f"the state {self.topic!r} was closed")

    async def _make(self, make: Callable[[str], str]) -> None:
        if self._writer is None:
            await self._inbox.retry(self._publish_made, make)
        else:
            await self._put(self._writer, StateRequest(make))

    def _publish_made(self, make: Callable[[str], str]) -> None:
        self._inbox.check_room()  # before it is made
        self._publish(make(self._published))

    async def _put(self, writer: StateWriter, request: StateRequest) -> None:
        self._check_not_closed()
        self._inbox.check_open()
        await writer.put(request)

    def _put_nowait(self, writer: StateWriter, request: StateRequest) -> None:
        self._check_not_closed()
        self._inbox.check_open()
        writer.put_nowait(request)

    def _request(self, changes: Changes, *, is_awaited: bool) -> StateRequest:
        make = partial(self._updated, changes)
        return StateRequest(make, can_repeat=not callable(changes), is_awaited=is_awaited)

    def close(self) -> None:
        """Turn the topic into an ordinary one. Its subscribers stay, and keep what they received.

        They still receive the changes that were published before. With a shared log, this closes the state on
        this node alone; the others keep it.
        """
        self._inbox.check_thread()
        if not self.is_closed:
            self.is_closed = True
            self._close(self._state_topic)


async def change_state(state: State, make: Callable[[str], str]) -> None:
    """Change a state to what a function returns for it, both as JSON; raise what `State.update` raises."""
    await state._make(make)


def topic_of(state: State) -> StateTopic:
    """Return the hub's side of a state."""
    return state._state_topic
