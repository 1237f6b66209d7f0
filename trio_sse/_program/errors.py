"""The errors that end the program with a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .._app.lifespan import AppLifespanError, AppStartupError
from .._groups import leaf_exceptions
from .._shared_log.protocol import LogRefused

#: What a call to serve raises because of the app. These need one line, and no traceback.
_APP_ERRORS = (AppStartupError, AppLifespanError)


class ProgramError(Exception):
    """The program cannot do what the user asked for. The text says why, and what would work."""


class AppProgramError(ProgramError):
    """The app could not be started, or failed. Another attempt may succeed."""


@contextmanager
def expected_errors_as_program_errors() -> Iterator[None]:
    """Raise `ProgramError` if a shared log rejects the connection or the app fails, alone or in a group."""
    try:
        yield
    except (LogRefused, *_APP_ERRORS) as error:
        raise _program_error(error) from error
    except BaseExceptionGroup as group:
        expected = group.subgroup((LogRefused, *_APP_ERRORS))
        if expected is None:
            raise
        raise _program_error(leaf_exceptions(expected)[0]) from group


def _program_error(error: BaseException) -> ProgramError:
    if isinstance(error, LogRefused):
        return ProgramError(f"the shared log refused: {error}")
    return AppProgramError(str(error))
