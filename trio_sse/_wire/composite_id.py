"""Ids of a connection on which several subscriptions are forwarded.

Their positions do not move together: one may have written everything up to 40 while another still has 12 to
write. So an id of such a connection names the position of each: `BASE~TAG.POSITION~TAG.POSITION`. A tag is a
hash of what a subscription asks for, so the subscription finds its own position again. `BASE` is the id of
the first of the positions: any other subscription may resume from it. It says nothing of states.

A position is an id, without the epoch that it shares with `BASE`. All characters are allowed in a header and
in a query without escaping.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2s
from typing import NamedTuple

from .cursor import Cursor
from .held_states import split_mark

#: The cursor of a subscription that has received nothing and has no id. No log knows it.
NOTHING = Cursor(-1, "none")

# A longer id is not sent. The base alone then repeats events, but loses none.
_MOST_CHARACTERS = 2048

_COMPOSITE = re.compile(r"([0-9A-Za-z_.-]+)((?:~[0-9a-f]{8}\.[0-9A-Za-z_.-]+)+)", re.ASCII)


class CompositeId(NamedTuple):
    """The parts of a composite id.

    Attributes:
        base: an id from which any subscription may resume.
        own: the ids of the subscriptions, by their tags.
    """

    base: str
    own: Mapping[str, str]


def parse_composite(event_id: str) -> CompositeId | None:
    """Return the parts of an id, or `None` if it is not composite."""
    match = _COMPOSITE.fullmatch(event_id) if "~" in event_id else None
    if match is None:
        return None
    base = match[1]
    epoch = _epoch(base)
    own: dict[str, str] = {}
    for entry in match[2][1:].split("~"):
        tag, _, position = entry.partition(".")
        is_whole = not epoch or "." in position or "-" in position
        own.setdefault(tag, position if is_whole else epoch + position)
    return CompositeId(base, own)


def compose(cursors: Iterable[tuple[str, Cursor]], pinned: CompositeId | None = None) -> str:
    """Return the id of a connection with these cursors, each with its tag.

    `pinned` is an older id, whose positions are kept for subscriptions that have not begun yet.
    """
    entries: dict[str, Cursor] = {}
    for tag, cursor in cursors:
        if tag not in entries or cursor.position < entries[tag].position:
            entries[tag] = cursor
    first = min(entries.values(), key=_position)
    base, _ = split_mark(first.id if pinned is None else pinned.base)
    ids = [(tag, cursor.id) for tag, cursor in entries.items()]
    if pinned is not None:
        ids += [(tag, id) for tag, id in pinned.own.items() if tag not in entries]
    epoch = _epoch(base)
    composed = base + "".join(f"~{tag}.{id.removeprefix(epoch) if epoch else id}" for tag, id in ids)
    return composed if len(composed) <= _MOST_CHARACTERS else base


@lru_cache(maxsize=256)
def tag_of(topics: tuple[str, ...], throttle: tuple[float, bool, int, int] | None) -> str:
    """Return the tag of a subscription: the same in every process, and for any order of its topics.

    Of a throttle, its time and whether it keeps all events count, and its bounds do not.
    """
    asked = "\n".join([*sorted(topics), "" if throttle is None else f"{throttle[0]:g} {throttle[1]}"])
    return blake2s(asked.encode(), digest_size=4).hexdigest()


def _epoch(event_id: str) -> str:
    """Return what precedes the number in an id of a log in memory; a shared log's has no such part."""
    return event_id[: event_id.rfind(".") + 1]


def _position(cursor: Cursor) -> int:
    return cursor.position
