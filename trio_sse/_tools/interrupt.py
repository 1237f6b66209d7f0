"""Ctrl-C for the programs that follow streams: it cancels, rather than raising wherever Python happens to be.

A `KeyboardInterrupt` raised within a client library can be lost there, in a generator's finalizer, say.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import trio


class Interruption:
    """What SIGINT does to the block of `interruptible`.

    Attributes:
        has_come: whether there was one.
    """

    def __init__(self, scope: trio.CancelScope) -> None:
        self.has_come = False
        self._scope = scope
        self._is_blocking = False
        self._token = trio.lowlevel.current_trio_token()

    @contextmanager
    def raises(self) -> Iterator[None]:
        """Within this block, which may wait without Trio, for a terminal that has stopped, say, it raises."""
        self._is_blocking = True
        try:
            yield
        except KeyboardInterrupt:
            self._scope.cancel()
        finally:
            self._is_blocking = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT."""
        self.has_come = True
        if self._is_blocking:
            raise KeyboardInterrupt
        self._token.run_sync_soon(self._scope.cancel)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Have SIGINT cancel the block, for as long as it lasts. Main thread only."""
    with trio.CancelScope() as scope:
        interruption = Interruption(scope)
        before = signal.signal(signal.SIGINT, interruption.on_signal)
        try:
            yield interruption
        finally:
            signal.signal(signal.SIGINT, before)
