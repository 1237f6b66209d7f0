"""Ctrl-C for the commands that follow streams: SIGINT cancels, instead of raising anywhere.

A `KeyboardInterrupt` within a client library can be lost, for example in a generator's finalizer. Trio's own
`open_signal_receiver` is not enough: a task would have to receive the signal, and no task runs while `print`
blocks because the terminal is stopped.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

import trio


@final
class SigintHandler:
    """Cancels the block of `cancel_on_sigint`.

    Attributes:
        was_received: whether SIGINT has been received.
    """

    def __init__(self, scope: trio.CancelScope) -> None:
        self.was_received = False
        self._scope = scope
        self._is_blocking = False
        self._token = trio.lowlevel.current_trio_token()

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Let SIGINT end this block even while it blocks outside Trio."""
        self._is_blocking = True
        try:
            yield
        except KeyboardInterrupt:
            self._scope.cancel()
        finally:
            self._is_blocking = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT."""
        self.was_received = True
        if self._is_blocking:
            raise KeyboardInterrupt
        self._token.run_sync_soon(self._scope.cancel)


@contextmanager
def cancel_on_sigint() -> Iterator[SigintHandler]:
    """Cancel the block on SIGINT. Only in the main thread."""
    with trio.CancelScope() as scope:
        handler = SigintHandler(scope)
        before = signal.signal(signal.SIGINT, handler.handle)
        try:
            yield handler
        finally:
            signal.signal(signal.SIGINT, before)
