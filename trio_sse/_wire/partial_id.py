"""Ids of readers that do not have all of their states yet.

A stream may begin with several messages that stand for one place in the hub's order, such as a reset and the
snapshots of two states. A client that is cut off after the first one does not have the others. So the id of
each names the states whose snapshots are still to come: `ID_TAG_TAG`. A tag is a hash of a state's topic. Who
resumes from such an id receives what it has missed of its other topics, and then snapshots of these.

All characters are allowed in a header, in a query without escaping, and as a position in a composite id.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from hashlib import blake2s

_PARTIAL = re.compile(r"([0-9A-Za-z.-]+)((?:_[0-9a-f]{8})+)", re.ASCII)


def partial_id(id: str, lacking: Iterable[str]) -> str:
    """Return the id of a reader that is at `id`, but still lacks the states with these topics."""
    return id + "".join([f"_{_tag_of(topic)}" for topic in lacking])


def split_partial(id: str, topics: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """Return the id of the place, and those of the topics that are states which its reader lacks."""
    if "_" not in id or (match := _PARTIAL.fullmatch(id)) is None:
        return id, ()
    tags = match[2][1:].split("_")
    return match[1], tuple([topic for topic in topics if _tag_of(topic) in tags])


@lru_cache(maxsize=256)
def _tag_of(topic: str) -> str:
    return blake2s(topic.encode(), digest_size=4).hexdigest()
