"""State topics: a value that all subscribers see, first as a snapshot and then as changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import final

import trio

from .inbox import Inbox
from .state_topic import StateTopic


@final
class State:
    """One state topic; created by `Hub.state`.

    Nothing else may be published to its topic.

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

    @property
    def value(self) -> object:
        """A copy of the state as it was last set."""
        value: object = json.loads(self._published)
        return value

    async def set(self, value: object) -> None:
        """Set the state to a JSON value and publish the change, waiting while the inbox is full.

        Nothing is published if nothing changes. If this is cancelled, the state is as before.

        Raises:
            TypeError, ValueError: it is not a JSON value, or is larger than an event may be.
            RuntimeError: the hub has never run.
            trio.ClosedResourceError: the hub has ended, or the state was closed.
        """
        self._inbox.check_thread()
        await self._inbox.retry(self._publish, self._encode(value))

    def set_nowait(self, value: object) -> None:
        """Set the state as `set` does, or raise `trio.WouldBlock` if the inbox is full."""
        self._inbox.check_thread()
        self._publish(self._encode(value))

    def _publish(self, text: str) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError(f"the state {self.topic!r} was closed")
        if text == self._published:
            return
        self._inbox.check_room()  # before the patch is made, which may take long
        self._inbox.put_nowait(self._state_topic.change(self._published, text))
        self._state_topic.unplaced += 1
        self._published = text

    async def update(self, changes: Mapping[str, object]) -> None:
        """Set some members of a state that is an object, as `set` sets all of it.

        Raises:
            TypeError: the state is not an object.
        """
        await self._inbox.retry(self.update_nowait, dict(changes))

    def update_nowait(self, changes: Mapping[str, object]) -> None:
        """Set some members as `update` does, or raise `trio.WouldBlock` if the inbox is full."""
        self._inbox.check_thread()
        self._inbox.check_room()  # before the state is decoded and encoded
        value = self.value
        if not isinstance(value, dict):
            raise TypeError(f"only an object has members to update, and the state is {self._published[:40]}")
        self.set_nowait({**value, **changes})

    def close(self) -> None:
        """Turn the topic into an ordinary one. Its subscribers stay, and keep what they received.

        They still receive the changes that were published before.
        """
        self._inbox.check_thread()
        if not self.is_closed:
            self.is_closed = True
            self._close(self._state_topic)
