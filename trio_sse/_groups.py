"""Exception groups, and the boundary between what user code raises and what must pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

E = TypeVar("E", bound=BaseException)


# Groups that are nested deeper are made flat: Python splits and shows groups by recursion.
_MAX_DEPTH = 100


def leaf_exceptions(group: BaseExceptionGroup[E]) -> list[E]:
    """Return the exceptions in a group that are not groups themselves, in order."""
    return _walk(group)[0]


def _walk(group: BaseExceptionGroup[E]) -> tuple[list[E], int]:
    """Return the leaves of a group, and how deep it is nested."""
    leaves: list[E] = []
    left: list[tuple[E | BaseExceptionGroup[E], int]] = [(group, 1)]
    deepest = 0
    while left:
        error, depth = left.pop()
        if isinstance(error, BaseExceptionGroup):
            deepest = max(deepest, depth)
            left += [(inner, depth + 1) for inner in reversed(error.exceptions)]
        else:
            leaves.append(error)
    return leaves, deepest


def shallow(error: BaseException) -> BaseException:
    """Return what user code raised, with its groups in one if they are nested very deep.

    Do this before one of Trio's scopes sees it: the scope cannot end if it fails to split the group.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves, depth = _walk(error)
    if depth <= _MAX_DEPTH:
        return error
    return BaseExceptionGroup(error.message, leaves).with_traceback(error.__traceback__)


def only_exception(error: BaseException) -> BaseException:
    """Return the only exception of a group, as deep as it may be; anything else as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def is_cancellation(error: BaseException) -> bool:
    """Whether it is Trio's cancellation, and nothing else."""
    leaves = leaf_exceptions(error) if isinstance(error, BaseExceptionGroup) else [error]
    return all(isinstance(leaf, trio.Cancelled) for leaf in leaves)


@contextmanager
def plain_cancellation() -> Iterator[None]:
    """Raise a cancellation as `trio.Cancelled`, though a nursery raises it in a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        if is_cancellation(group):
            raise leaf_exceptions(group)[0] from None
        raise


def split_failure(failure: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split what user code raised into what must pass, and what ends only its own stream or request.

    The cancellation of this task passes, and `KeyboardInterrupt`. Everything else is contained, also what is
    no `Exception`: another library's cancellation, `SystemExit`, `GeneratorExit`, a panic of foreign code. A
    server with thousands of streams must not end because one of them raised it.

    So is a `trio.Cancelled` while nothing has cancelled this task. It comes from another task, as when
    several requests wait for one result, and receive the exception of the one that computed it. No scope
    would stop it before it ended the server.
    """
    passing = (trio.Cancelled, KeyboardInterrupt) if _is_cancelled() else KeyboardInterrupt
    return split(failure, passing)


def split(
    failure: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]
) -> tuple[BaseException | None, BaseException | None]:
    """Split an exception, or a group, into what is of these kinds and the rest."""
    failure = shallow(failure)
    if isinstance(failure, BaseExceptionGroup):
        leaves = leaf_exceptions(failure)
        matching = sum(isinstance(leaf, kinds) for leaf in leaves)
        if 0 < matching < len(leaves):
            return failure.split(kinds)
        return (failure, None) if matching else (None, failure)
    return (failure, None) if isinstance(failure, kinds) else (None, failure)


def _is_cancelled() -> bool:
    """Whether a scope around this task, as far as it is not shielded, has been cancelled."""
    return trio.lowlevel.in_trio_task() and trio.current_effective_deadline() == -math.inf


@contextmanager
def stray_cancellation_fails() -> Iterator[None]:
    """Make an error of a cancellation that is not this task's; a nursery would take it for its own.

    Groups that are nested too deep for Trio's scopes are made flat.
    """
    try:
        yield
    except BaseException as failure:
        if is_cancellation(failure) and not _is_cancelled():
            raise as_exception(failure) from None
        if (raised := shallow(failure)) is not failure:
            raise raised from None
        raise


def as_exception(error: BaseException) -> Exception:
    """Return an `Exception` for what was contained, so that frameworks treat it as any failure."""
    if isinstance(error, Exception):
        return error
    wrapper = RuntimeError(f"the code raised {type(error).__name__}")
    wrapper.__cause__ = error
    return wrapper
