"""Where the pump writes what a feed receives: the interface between a feed and a transport."""

from __future__ import annotations

from typing import Protocol

from .._wire.message import Framing


class Writer(Protocol):
    """What the pump may write to itself, while nothing is pending there."""

    framing: Framing
    pending: bytes | memoryview | None
    written_at: float

    def begin_send(self, payload: bytes, events: int, now: float) -> bool:
        """Write `payload`, which holds `events` events; keep as `pending` what is not sent at once.

        Return whether everything was sent. Otherwise call `flush_nowait` before the next checkpoint: under
        TLS, everything is left for it. Never raise: a broken transport keeps everything pending.
        """

    def flush_nowait(self, now: float) -> None:
        """Send as much of what is pending as can be sent now."""


class Forwarder(Protocol):
    """A stream that forwards a feed."""

    def on_overflow(self) -> None:
        """Called when the feed has overflowed."""
