"""The hub's side of a state: the topic's value in the hub's order, its snapshots and its changes.

The invariant: a change becomes part of `text` at the moment at which the pump places it in the hub's order,
and a new subscriber's snapshot is `text` as of the log's last id. So nothing is missing or repeated between
the two. A client that reconnects receives the changes that it has missed, or a new snapshot if the log no
longer has them.

What is sent is one of these events, each with an id:

- `snapshot`: the whole state;
- `merge-patch`: a JSON Merge Patch (RFC 7396);
- `json-patch`: a JSON Patch (RFC 6902).

A change is sent as a snapshot if its patch cannot express it (a merge patch has no null), if the patch is
larger than the state, or if the library fails.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from enum import Enum
from functools import partial
from itertools import count
from typing import Any, final

from .._containment import contained
from .._wire.event import MAX_DATA_SIZE, ServerSentEvent, dumps_compact
from .._wire.json_text import compact_json
from .._wire.message import Message
from .._wire.state_change import StateChange
from .value import encode_state

_MISSING_EXTRA = "state topics need their extra: pip install 'trio-sse[state]'"

# Smaller snapshots are written together, as other events are.
_LARGE_BYTES = 4096

# As many snapshots are kept, with different ids.
_MOST_SNAPSHOTS = 4

# As many patches to the state as it is are kept.
_MOST_CHANGES = 4

_numbers = count(1)

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
class StateTopic:
    """A topic that is a state.

    Args:
        since: the position at which it became one.

    Attributes:
        name: the topic's name.
        text: the state as JSON, as of its newest event that has an id.
        number: what tells it from another state of this name in this process.
        since: a reader that resumes from a position before it does not have the state.
        unplaced: how many changes are on their way to their place.
    """

    def __init__(self, name: str, text: str, patch: PatchFormat, since: int) -> None:
        self.name = name
        self.number = next(_numbers)
        self.text = text
        self.since = since
        self.unplaced = 0
        self._forget: Callable[[], None] | None = None  # once it is closed
        self._format = patch
        self._diff, self._apply = _load(patch)
        self._snapshots: dict[str, Message] = {}  # of the newest place, by their ids
        self._changes: dict[tuple[str, str], Message] = {}  # by the old state, and the newest id

    @property
    def is_closed(self) -> bool:
        """Whether the topic is an ordinary one after the changes that are not placed yet."""
        return self._forget is not None

    def close(self, forget: Callable[[], None]) -> None:
        """Call `forget` as soon as the last change has its place."""
        self._forget = forget
        if not self.unplaced:
            forget()

    def change(self, old: str, new: str) -> Message:
        """Return the event that changes the state from one JSON text to another when it is placed."""
        message = self._message(old, new)
        message.on_place = partial(self._place, new)
        return message

    def _place(self, text: str) -> None:
        self.replace(text)
        self.unplaced -= 1
        if not self.unplaced and self._forget is not None:
            self._forget()

    def replace(self, text: str) -> None:
        """Make this the state, as an entry of a shared log has it."""
        self.text = text
        self._snapshots.clear()
        self._changes.clear()

    def next_message(self, old: str, new: str, change: StateChange, *, is_any_size: bool = False) -> Message:
        """Return the event that changes the state for a shared log; a snapshot if any version may precede.

        Args:
            is_any_size: it may be a patch that is larger than the state, if an event may be as large.
        """
        if not (change.base and change.is_sent):
            message = self._event("snapshot", new)
        else:
            message = self._message(old, new, is_any_size=is_any_size)
        message.change = change
        return message

    def snapshot(self, sequence: int, id: str) -> Message:
        """Return the snapshot event for this place in the order, which must be the newest one.

        All who start at one place share one message, and its frames. Its id may say which states its reader
        has: then it is shared by those who have the same ones.
        """
        known = self._snapshots.get(id)
        if known is not None and known.sequence == sequence:
            return known
        if len(self._snapshots) == _MOST_SNAPSHOTS:
            del self._snapshots[next(iter(self._snapshots))]
        message = self._snapshots[id] = self._event("snapshot", self.text)
        message.place(sequence, id)
        if len(message.wire) >= _LARGE_BYTES:
            message.share_frames()
        return message

    def changes_since(self, text: str, newest: Message) -> Message:
        """Return all changes since the state was `text` as one event, in the place of the newest.

        Groups of subscriptions that have the same of the state share one message.
        """
        message = self._changes.get((text, newest.id))
        if message is None:
            if len(self._changes) == _MOST_CHANGES:
                del self._changes[next(iter(self._changes))]
            message = self._changes[text, newest.id] = self._message(text, self.text)
            message.place(newest.sequence, newest.id)
        return message

    def _message(self, old: str, new: str, *, is_any_size: bool = False) -> Message:
        """Return the event that turns one state into another."""
        patch = self._patch(old, new, is_any_size)
        return self._event("snapshot", new) if patch is None else self._event(self._format.value, patch)

    def _event(self, kind: str, text: str) -> Message:
        message = Message(self.name, ServerSentEvent(text, event=kind), text)
        message.change = StateChange()
        return message

    def _patch(self, old: str, new: str, is_any_size: bool) -> str | None:
        """Return a patch as text, or `None` if there is none, or none that is smaller than the state.

        Where the library fails, too: it may be the hub's own task that calls it.
        """
        with contained(f"no patch could be made for the state {self.name!r}: its snapshot is sent"):
            return self._tried_patch(old, new, is_any_size)
        return None

    def _tried_patch(self, old: str, new: str, is_any_size: bool) -> str | None:
        patch = self._diff(json.loads(old), json.loads(new))
        # A library takes 1 for True, and a merge patch cannot express null: so the patch is tried.
        result = self._apply(json.loads(old), copy.deepcopy(patch))
        if _canonical(result) != _canonical(json.loads(new)):
            return None
        text = compact_json(patch)
        size = len(text.encode())  # as the bound counts: JSON has no line breaks
        return text if size < len(new.encode()) or (is_any_size and size <= MAX_DATA_SIZE) else None


def apply_event(text: str, message: Message) -> str:
    """Return the state after an event that another hub has made.

    Raises:
        Exception: the event is none of a state's, or its patch cannot be applied.
    """
    event = message.unplaced_event
    data: object = json.loads(str(event.data))
    if event.event != "snapshot":
        _, apply_patch = _load(PatchFormat(event.event))
        data = apply_patch(json.loads(text), data)
    return encode_state(data, dumps_compact)


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
