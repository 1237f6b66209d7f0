"""What all that is counted has in common: it may be cut, so that others have room."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import trio


class CutScope:
    """A context that is cancelled if it is cut. A subclass counts what it holds meanwhile.

    Attributes:
        is_cut: it has been cancelled, since there are too many bytes of others.
    """

    __slots__ = ("_scope", "is_cut")

    def __init__(self) -> None:
        self.is_cut = False
        self._scope = trio.CancelScope()

    def cut(self) -> None:
        """Cancel it."""
        self.is_cut = True
        self._scope.cancel()

    def _begin(self) -> None:
        """Count what it holds."""

    def _end(self) -> None:
        """Count it no longer."""

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._end()
        return self._scope.__exit__(kind, error, traceback)
