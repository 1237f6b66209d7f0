"""What a transport calls, in tests that own one."""

from __future__ import annotations


class Listener:
    """Counts the disconnects; nothing else may happen."""

    def __init__(self) -> None:
        self.disconnects = 0

    def on_disconnect(self) -> None:
        self.disconnects += 1

    def on_write_timeout(self) -> None:
        raise AssertionError

    def on_pending_cut(self) -> None:
        raise AssertionError

    def on_excess_input(self) -> None:
        raise AssertionError
