"""One request is answered with one event stream, on a server that is not ours.

Two would send their events into one response, and hypercorn would send both. On our own server, the
`AppStream` of the request knows.
"""

from __future__ import annotations

from typing import final

from .scope_object import ScopeObject
from .types import Scope

#: Where a scope's `extensions`, which copies of the scope share, have the `StreamSlot` of the request.
STREAM_SLOT = "trio_sse.stream"


@final
class StreamSlot(ScopeObject):
    """The one event stream that a request may have."""

    __slots__ = ("_is_taken",)

    def __init__(self) -> None:
        self._is_taken = False

    @classmethod
    def of(cls, scope: Scope) -> StreamSlot:
        """Return that of a request."""
        extensions = scope.get("extensions")
        if not isinstance(extensions, dict):
            extensions = scope["extensions"] = dict(extensions or {})
        slot: StreamSlot = extensions.setdefault(STREAM_SLOT, cls())
        return slot

    def take(self) -> None:
        """Record that a stream answers the request.

        Raises:
            RuntimeError: another one does, or has.
        """
        if self._is_taken:
            raise RuntimeError("a request can be answered with one stream only")
        self._is_taken = True

    def give_back(self) -> None:
        """Record that the stream has ended, and that its response had not begun."""
        self._is_taken = False
