"""State topics: a value that all subscribers see, as a snapshot first and then as what changes.

The value's place is in the hub's order, like an event's. A change becomes part of the state at the moment at
which the pump gives it its id; a snapshot that is given to a new subscriber is the state at the log's last
id. So there is nothing between the two, neither missing nor twice. A client that returns gets the changes
that it has missed, or, where the log doesn't reach back that far, a new snapshot.

What is sent is one of these events, each with an id:

- `snapshot`: the whole state;
- `merge-patch`: a JSON Merge Patch (RFC 7396);
- `json-patch`: a JSON Patch (RFC 6902).

A change that its patch can't express (a merge patch has no null), or for which it would be larger than the
state, is sent as a snapshot.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, final

import trio

from .._wire.event import ServerSentEvent
from .._wire.message import Message

_MISSING_EXTRA = "state topics need their extra: pip install 'trio-sse[state]'"

#: Gives the patch that makes one JSON value another.
Diff = Callable[[object, object], object]

#: Applies a patch to a JSON value, which it may change.
Apply = Callable[[object, object], object]


@final
class PatchFormat(Enum):
    """How the changes of a state are sent; the value is the event's type."""

    MERGE = "merge-patch"
    """JSON Merge Patch (RFC 7396): small, and easy to apply. An array that changes is sent whole."""

    JSON = "json-patch"
    """JSON Patch (RFC 6902): what changes inside of an array is sent as a change, too."""


@final
class State:
    """One state topic; only `Hub.state` makes one.

    Nothing else may be published to its topic.

    Attributes:
        topic: the topic's name.
        text: the state as JSON, as of the newest event that has its id.
        is_closed: `close` was called.
    """

    def __init__(
        self,
        topic: str,
        initial: object,
        *,
        patch: PatchFormat,
        encode: Callable[[object], str],
        put: Callable[[Message], None],
        room: trio.lowlevel.ParkingLot,
        forget: Callable[[], None],
    ) -> None:
        self.topic = topic
        self.is_closed = False
        self._forget = forget
        self._format = patch
        self._diff, self._apply = _load(patch)
        self._encode = encode
        self._put = put
        self._room = room
        self._published = self.text = encode(initial)

    @property
    def value(self) -> object:
        """The state as it was set last; a copy."""
        value: object = json.loads(self._published)
        return value

    async def set(self, value: object) -> None:
        """Make a JSON value the state, and publish what changes; wait while the inbox is full.

        Nothing is published if it changes nothing. If this is cancelled, the state is as before.

        Raises:
            TypeError, ValueError: it is no JSON value, or is larger than an event may be.
            RuntimeError: the hub has never run.
            trio.ClosedResourceError: the hub has ended, or the state was closed.
        """
        await self._wait_for_room(partial(self.set_nowait, value))

    def set_nowait(self, value: object) -> None:
        """Do what `set` does, or raise `trio.WouldBlock` if the inbox is full."""
        if self.is_closed:
            raise trio.ClosedResourceError(f"the state {self.topic!r} was closed")
        text = self._encode(value)
        if text == self._published:
            return
        message = self._message(self._published, text)
        message.on_place = partial(self._place, text)
        self._put(message)
        self._published = text

    async def update(self, changes: Mapping[str, object]) -> None:
        """Set some members of a state that is an object, as `set` sets all of it.

        Raises:
            TypeError: the state is no object.
        """
        await self._wait_for_room(partial(self.update_nowait, changes))

    def update_nowait(self, changes: Mapping[str, object]) -> None:
        """Do what `update` does, or raise `trio.WouldBlock` if the inbox is full."""
        value = self.value
        if not isinstance(value, dict):
            raise TypeError(f"only an object has members to update, and the state is {self._published[:40]}")
        self.set_nowait({**value, **changes})

    def close(self) -> None:
        """Make the topic one like any other. Who is subscribed stays so, and keeps what it was given."""
        if not self.is_closed:
            self.is_closed = True
            self._forget()

    async def _wait_for_room(self, put: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                put()
            except trio.WouldBlock:
                await self._room.park()
            else:
                break
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _message(self, old: str, new: str) -> Message:
        """Make the event by which one state becomes another."""
        patch = self._patch(old, new)
        event, text = ("snapshot", new) if patch is None else (self._format.value, patch)
        return Message(self.topic, ServerSentEvent(text, event=event), text)

    def _patch(self, old: str, new: str) -> str | None:
        patch = self._diff(json.loads(old), json.loads(new))
        # A library takes 1 for True, and a merge patch can't say null: so the patch is tried.
        result = self._apply(json.loads(old), copy.deepcopy(patch))
        if _canonical(result) != _canonical(json.loads(new)):
            return None
        text = json.dumps(patch, ensure_ascii=False, separators=(",", ":"))
        return text if len(text) < len(new) else None

    # The hub's side

    def _place(self, text: str) -> None:
        self.text = text

    def snapshot(self, sequence: int, id: str) -> Message:
        """Make the event that gives the state as of this place in the order, which is the newest one."""
        message = Message(self.topic, ServerSentEvent(self.text, event="snapshot"), self.text)
        message.place(sequence, id)
        return message

    def changes_since(self, text: str, newest: Message) -> Message:
        """Make one event of all that has changed since the state was `text`, in the place of the newest."""
        message = self._message(text, self.text)
        message.place(newest.sequence, newest.id)
        return message


def _load(patch: PatchFormat) -> tuple[Diff, Apply]:
    try:
        if patch is PatchFormat.MERGE:
            import json_merge_patch

            return json_merge_patch.create_patch, json_merge_patch.merge
        import jsonpatch
    except ImportError:
        raise ImportError(_MISSING_EXTRA) from None

    def diff(old: object, new: object) -> object:
        patch: object = jsonpatch.make_patch(old, new).patch
        return patch

    apply_patch: Any = jsonpatch.apply_patch  # typed for what patches may also be

    return diff, apply_patch


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
