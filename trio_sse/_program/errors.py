"""The errors that end the program with a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._groups import leaf_exceptions
from .._log.protocol import LogRefused


class ProgramError(Exception):
    """The program can't do what the user asked for. The text says why, and what would work."""


@contextmanager
def log_refusal_as_program_error() -> Iterator[None]:
    """Raise `ProgramError` if a shared log refuses to serve, alone or in a group of exceptions."""
    try:
        yield
    except LogRefused as error:
        raise ProgramError(f"the shared log refused: {error}") from error
    except BaseExceptionGroup as group:
        refusal = group.subgroup(LogRefused)
        if refusal is None:
            raise
        raise ProgramError(f"the shared log refused: {leaf_exceptions(refusal)[0]}") from group
