"""Exception groups, and the boundary between what user code raises and what must pass."""

from __future__ import annotations

from typing import TypeVar

import trio

E = TypeVar("E", bound=BaseException)


def leaf_exceptions(group: BaseExceptionGroup[E]) -> list[E]:
    """Return the exceptions in a group that are not groups themselves, in order."""
    leaves: list[E] = []
    for error in group.exceptions:
        leaves += leaf_exceptions(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def only_exception(error: BaseException) -> BaseException:
    """Return the only exception of a group, as deep as it may be; anything else as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def is_cancellation(error: BaseException) -> bool:
    """Whether it is Trio's cancellation, and nothing else."""
    leaves = leaf_exceptions(error) if isinstance(error, BaseExceptionGroup) else [error]
    return all(isinstance(leaf, trio.Cancelled) for leaf in leaves)


def split_failure(failure: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split what user code raised into what must pass, and what ends only its own stream or request.

    Trio's cancellation passes, and `KeyboardInterrupt`. Everything else is contained, also what is no
    `Exception`: another library's cancellation, `SystemExit`, `GeneratorExit`, a panic of foreign code. A
    server with thousands of streams must not end because one of them raised it.
    """
    if isinstance(failure, BaseExceptionGroup):
        return failure.split((trio.Cancelled, KeyboardInterrupt))
    if isinstance(failure, trio.Cancelled | KeyboardInterrupt):
        return failure, None
    return None, failure


def as_exception(error: BaseException) -> Exception:
    """Return an `Exception` for what was contained, so that frameworks treat it as any failure."""
    if isinstance(error, Exception):
        return error
    wrapper = RuntimeError(f"the code raised {type(error).__name__}")
    wrapper.__cause__ = error
    return wrapper
