"""Loggers whose filters and handlers are the application's, and may fail.

The standard library contains what a handler's `emit` raises (`Handler.handleError`), but not what a filter or
an own `handle` raises. A log call stands in the hub's pump and in the tasks of all connections, so what it
raised would end everybody's streams. These loggers treat every failure as `handleError` does: it ends the log
call, and is printed to `sys.stderr` unless `logging.raiseExceptions` is false.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Mapping
from time import monotonic
from typing import final

from ._groups import split_failure
from ._logging.json_lines import FIELDS
from ._logging.repeats import RepeatLimit

_repeats = RepeatLimit()

_CALLER = 3  # the frame of the log call, for `LogRecord.lineno` and so on


@final
class ContainedLogger:
    """The methods of a `logging.Logger` that this project uses. They raise only what must pass."""

    __slots__ = ("_logger", "isEnabledFor")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.isEnabledFor = logger.isEnabledFor  # as the standard library names it; each stream asks twice

    def debug(self, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        self._log(logging.DEBUG, message, args, exc_info)

    def info(
        self,
        message: str,
        *args: object,
        exc_info: BaseException | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        """Log a message; `fields` are for formatters, as the record's attribute `trio_sse`."""
        self._log(logging.INFO, message, args, exc_info, fields)

    def info_often(self, message: str, *args: object) -> None:
        """Log a message that any stranger can cause, unless it was logged too often of late."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        left_out = _repeats.admit(message, monotonic())
        if left_out is None:
            return
        if left_out:
            self._log(logging.INFO, "%d lines like the next one were left out", (left_out,), None)
        self._log(logging.INFO, message, args, None)

    def warning(self, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        self._log(logging.WARNING, message, args, exc_info)

    def error(self, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        self._log(logging.ERROR, message, args, exc_info)

    def log(self, level: int, message: str, *args: object) -> None:
        self._log(level, message, args, None)

    def _log(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        exc_info: BaseException | None,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        extra = None if fields is None else {FIELDS: fields}
        # As a tuple: an exception may be false, as one that has a length, or fail to say whether it is.
        error = None if exc_info is None else (type(exc_info), exc_info, exc_info.__traceback__)
        try:
            self._logger.log(level, message, *args, exc_info=error, extra=extra, stacklevel=_CALLER)
        except BaseException as failure:
            passing, contained = split_failure(failure)
            if contained is not None:
                report(contained, message)
            if passing is not None:
                raise passing from None


def get_logger(name: str) -> ContainedLogger:
    """Return the logger with this name."""
    return ContainedLogger(logging.getLogger(name))


def report(failure: BaseException, message: str) -> None:
    """Print an exception of a filter or handler as the standard library does."""
    if logging.raiseExceptions and sys.stderr is not None:
        text = "".join(traceback.format_exception(failure))
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it has been closed
            sys.stderr.write(f"--- Logging error ---\n{text}Message: {message!r}\n")
