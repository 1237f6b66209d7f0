"""How much of a run a client has: the cursor of a run's stream.

A position counts what the client has of each part of the run. So it says exactly where to continue, whatever
a log or a node remembers. As a text it is an event's id::

    b3JZ5cQw.2-1-840-12        two events, the first state, 840 bytes of one text and 12 of another
    b3JZ5cQw.2-1-840-12-end    the same, and the run's end
    b3JZ5cQw.2-1-840-12~0f3a   the same, where this attempt of the run has made the newest of it

The part before the point is the beginning of the run's id, so that the cursor of another run is not taken for
one of this run. The part after the tilde names the newest attempt whose output the client has; it is missing
in the first one. A store that is restored to an older state may lose what clients have, and the next attempt
then writes something else: its clients begin anew. All characters are unreserved, so that the id can be a
part of any URL or header field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# As many characters of a run's id are in its cursors.
_TAG_SIZE = 8

# A cursor that a client sends is refused if it is longer: it has sixteen texts at most.
_LONGEST = 400
_LARGEST = 2**53

EPOCH = re.compile("[0-9a-z]{1,16}")


class Position(NamedTuple):
    """How much of a run is known.

    Attributes:
        events: how many of its events.
        state: the version of its state; 0 for none.
        lengths: how many bytes of each text, in UTF-8; texts that are missing here have none.
        has_ended: whether its end.
        epoch: which attempt it is in; empty for the first.
    """

    events: int
    state: int
    lengths: tuple[int, ...]
    has_ended: bool
    epoch: str = ""


#: Nothing of a run is known.
START = Position(0, 0, (), False)


def is_beyond(position: Position, events: int, state: int, lengths: Sequence[int]) -> bool:
    """Whether a position has more events, a newer state, or more bytes of a text."""
    known = (*lengths, *[0] * len(position.lengths))
    return (
        position.events > events
        or position.state > state
        or any(own > length for own, length in zip(position.lengths, known, strict=False))
    )


def format_position(run_id: str, position: Position) -> str:
    """Return a position as an event's id."""
    events, state, lengths, has_ended, epoch = position
    text = f"{run_id[:_TAG_SIZE]}.{events}-{state}"
    for length in lengths:
        text += f"-{length}"
    if has_ended:
        text += "-end"
    return f"{text}~{epoch}" if epoch else text


def epoch_of(cursor: str) -> str:
    """Return which attempt a cursor names; empty for the first."""
    return cursor.partition("~")[2]


def parse_position(run_id: str, id: str) -> Position | None:
    """Return the position that an id has, or `None` if it is not one of this run."""
    tag, point, rest = id.partition(".")
    if not point or tag != run_id[:_TAG_SIZE] or len(id) > _LONGEST:
        return None
    rest, tilde, epoch = rest.partition("~")
    if tilde and EPOCH.fullmatch(epoch) is None:
        return None
    has_ended = rest.endswith("-end")
    parts = rest.removesuffix("-end").split("-")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    events, state, *lengths = map(int, parts)
    if max(events, state, *lengths, 0) > _LARGEST:
        return None
    return Position(events, state, tuple(lengths), has_ended, epoch)
