"""What this project puts into an ASGI scope, and what middleware does to it."""

from __future__ import annotations

from typing import Self


class ScopeObject:
    """An object of one request, or of the server, that copies of its scope share.

    Middleware may copy a scope, and what is in it. But there is one connection and one response, so a copy
    that had its own state would write to nobody, or end what goes on.
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self
