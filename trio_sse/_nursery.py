"""A nursery whose block runs user code."""

from __future__ import annotations

from types import TracebackType
from typing import final

import trio

from ._groups import is_cancellation, split


@final
class UserCodeNursery:
    """A nursery whose block runs user code: what that raises passes by the nursery, not through it.

    Trio asks for the `repr` of what reaches a nursery, to say why it cancels the children. If that fails, as
    the `__repr__` of the exception's own class may, then the nursery stays open, and Trio ends the whole run.

    What the block raises cancels the children and is raised when they have ended, in no group; if a child
    fails, too, both are raised in one. A cancellation from outside passes through the nursery as usual. If
    the block raises something else beside it, that is raised alone, as no caller would catch a group; the
    task is still cancelled. The children must not run user code: Trio asks for the `repr` of what they
    raise, too.
    """

    __slots__ = ("_manager", "_nursery")

    async def __aenter__(self) -> trio.Nursery:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self._nursery

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if failure is None or isinstance(failure, trio.Cancelled):
            return await self._manager.__aexit__(kind, failure, traceback)
        cancelled, rest = split(failure, trio.Cancelled)
        self._nursery.cancel_scope.cancel()
        try:
            if cancelled is None:
                await self._manager.__aexit__(None, None, None)
            else:
                await self._manager.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)
        except BaseException as raised:
            if rest is None:
                raise
            if not is_cancellation(raised):
                raise BaseExceptionGroup("a block and its nursery", [rest, raised]) from None
        if rest is failure:
            return False
        if rest is not None:
            raise rest from None
        return True
