"""Ids that say which states their reader has.

A reader has a state from its snapshot on. The position that an id stands for does not show that: the reader
may have added the state since, and a reset and several snapshots stand at one position. So each id that it
receives from then on names the states that it has: `ID_MARK`. A mark is the exclusive or of a hash of each
name.

Who resumes from an id with the mark of all of its states, or of those whose snapshots come first, receives
what it has missed of them and of its other topics, and then snapshots of the rest. With any other mark, it
receives snapshots of all.

All characters are allowed in a header, in a query without escaping, and as a position in a composite id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2s

_HOLDING = re.compile(r"([0-9A-Za-z.-]+)_([0-9a-f]{8})", re.ASCII)


def mark_of(states: Iterable[str], mark: str = "") -> str:
    """Return the mark of some states, in any order, and of those of another mark; empty stands for none.

    A name may be followed by a number, which tells the states apart that have had it.
    """
    return marks_of(states, mark)[-1]


def marks_of(states: Iterable[str], mark: str = "") -> Sequence[str]:
    """Return the marks of a reader that has those of `mark`, and then receives one state after the other."""
    marks = [mark]
    bits = int(mark or "0", 16)
    for state in states:
        bits ^= _bits_of(state)
        marks.append(f"{bits:08x}")
    return marks


def id_holding(id: str, mark: str) -> str:
    """Return the id of a reader that is at `id` and has the states of this mark."""
    return f"{id}_{mark}" if mark else id


def split_mark(id: str) -> tuple[str, str]:
    """Return the id of the place, and the mark of the states that its reader has."""
    if "_" not in id or (match := _HOLDING.fullmatch(id)) is None:
        return id, ""
    return match[1], match[2]


@lru_cache(maxsize=1024)
def _bits_of(state: str) -> int:
    return int.from_bytes(blake2s(state.encode(), digest_size=4, person=b"states").digest())
