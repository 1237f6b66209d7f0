"""Ctrl-C ends a program that serves without a traceback.

Trio raises `KeyboardInterrupt` in whatever runs, and each nursery around that wraps it into a group. An
interpreter prints thirty lines for such a group, though nothing went wrong. So while a server listens in the
main thread, an uncaught exception that is nothing but interruptions ends the program with 130, as a shell
reports Ctrl-C. A hook that the program has set itself is left alone.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType

import trio

from .._groups import leaf_exceptions

_EXIT_CODE = 130


def exit_quietly_when_interrupted() -> None:
    """Let the main thread's interruptions end the program without a traceback."""
    is_interactive = hasattr(sys, "ps1")  # which goes on after an interruption
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and not is_interactive and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _exit_if_interrupted


def _exit_if_interrupted(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if is_interruption(error):
        sys.exit(_EXIT_CODE)
    sys.__excepthook__(kind, error, traceback)


def is_interruption(error: BaseException) -> bool:
    """Whether it is `KeyboardInterrupt`, alone or with the cancellations that it has caused."""
    leaves = leaf_exceptions(error) if isinstance(error, BaseExceptionGroup) else [error]
    kinds = {type(leaf) for leaf in leaves}
    return KeyboardInterrupt in kinds and kinds <= {KeyboardInterrupt, trio.Cancelled}
