"""State topics: a value that all subscribers see, first as a snapshot and then as changes.

The invariant: a change becomes part of `text` at the moment at which the pump places it in the hub's order,
and a new subscriber's snapshot is `text` as of the log's last id. So nothing is missing or repeated between
the two. A client that reconnects receives the changes that it has missed, or a new snapshot if the log no
longer has them.

What is sent is one of these events, each with an id:

- `snapshot`: the whole state;
- `merge-patch`: a JSON Merge Patch (RFC 7396);
- `json-patch`: a JSON Patch (RFC 6902).

A change that its patch can't express (a merge patch has no null), or whose patch would be larger than the
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
from .inbox import Inbox

_MISSING_EXTRA = "state topics need their extra: pip install 'trio-sse[state]'"

#: Returns the patch that turns one JSON value into another.
Diff = Callable[[object, object], object]

#: Applies a patch to a JSON value, which it may change.
Apply = Callable[[object, object], object]


@final
class PatchFormat(Enum):
    """How the changes of a state are sent; the value is the event's type."""

    MERGE = "merge-patch"
    """JSON Merge Patch (RFC 7396): small, and easy to apply. An array that changes is sent whole."""

    JSON = "json-patch"
    """JSON Patch (RFC 6902): a change inside an array is sent as such, too."""


@final
class State:
    """One state topic; only `Hub.state` makes one.

    Nothing else may be published to its topic.

    Attributes:
        topic: the topic's name.
        text: the state as JSON, as of its newest event that has an id.
        is_closed: `close` was called.
    """

    def __init__(
        self,
        topic: str,
        initial: object,
        *,
        patch: PatchFormat,
        encode: Callable[[object], str],
        inbox: Inbox,
        forget: Callable[[], None],
    ) -> None:
        self.topic = topic
        self.is_closed = False
        self._forget = forget
        self._format = patch
        self._diff, self._apply = _load(patch)
        self._encode = encode
        self._inbox = inbox
        self._published = self.text = encode(initial)

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
        await self._inbox.retry(partial(self.set_nowait, value))

    def set_nowait(self, value: object) -> None:
        """Set the state as `set` does, or raise `trio.WouldBlock` if the inbox is full."""
        if self.is_closed:
            raise trio.ClosedResourceError(f"the state {self.topic!r} was closed")
        text = self._encode(value)
        if text == self._published:
            return
        message = self._message(self._published, text)
        message.on_place = partial(self._place, text)
        self._inbox.put_nowait(message)
        self._published = text

    async def update(self, changes: Mapping[str, object]) -> None:
        """Set some members of a state that is an object, as `set` sets all of it.

        Raises:
            TypeError: the state is not an object.
        """
        await self._inbox.retry(partial(self.update_nowait, changes))

    def update_nowait(self, changes: Mapping[str, object]) -> None:
        """Set some members as `update` does, or raise `trio.WouldBlock` if the inbox is full."""
        value = self.value
        if not isinstance(value, dict):
            raise TypeError(f"only an object has members to update, and the state is {self._published[:40]}")
        self.set_nowait({**value, **changes})

    def close(self) -> None:
        """Turn the topic into an ordinary one. Its subscribers stay, and keep what they received."""
        if not self.is_closed:
            self.is_closed = True
            self._forget()

    def _message(self, old: str, new: str) -> Message:
        """Return the event that turns one state into another."""
        patch = self._patch(old, new)
        event, text = ("snapshot", new) if patch is None else (self._format.value, patch)
        return Message(self.topic, ServerSentEvent(text, event=event), text)

    def _patch(self, old: str, new: str) -> str | None:
        patch = self._diff(json.loads(old), json.loads(new))
        # A library takes 1 for True, and a merge patch can't express null: so the patch is tried.
        result = self._apply(json.loads(old), copy.deepcopy(patch))
        if _canonical(result) != _canonical(json.loads(new)):
            return None
        text = json.dumps(patch, ensure_ascii=False, separators=(",", ":"))
        return text if len(text) < len(new) else None

    # The hub's side

    def _place(self, text: str) -> None:
        self.text = text

    def snapshot(self, sequence: int, id: str) -> Message:
        """Return the snapshot event for this place in the order, which must be the newest one."""
        message = Message(self.topic, ServerSentEvent(self.text, event="snapshot"), self.text)
        message.place(sequence, id)
        return message

    def changes_since(self, text: str, newest: Message) -> Message:
        """Return all changes since the state was `text` as one event, in the place of the newest."""
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
