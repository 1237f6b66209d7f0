"""What the console needs of the server that it shows."""

from __future__ import annotations

from typing import Any, Protocol

from .._hub.hub import Hub
from .._pausing import Pausing

#: What is known of a server at one moment, as it is sent: names, numbers, lists and mappings.
Snapshot = dict[str, Any]

#: The numbers of a snapshot's `totals` that are charted; the others are only shown.
CHARTED = (
    "open_streams",
    "opened",
    "events_sent",
    "bytes_sent",
    "published",
    "deliveries",
    "refused",
    "lagging",
    "queued_events",
    "pending_bytes",
    "loop_seconds",
    "processes",
    "longest_turn",
    "memory",
    "descriptors",
)


class ConsoleSource(Protocol):
    """A server, as the console sees it."""

    @property
    def hub(self) -> Hub:
        """The hub whose topics can be watched and published to."""

    def snapshot(self) -> Pausing[Snapshot]:
        """Compute a snapshot. Its `totals` have at least the numbers of `CHARTED`."""

    def end_stream(self, id: int, pid: int | None, *, reconnect: bool) -> bool:
        """End a stream, of this process or another; return whether it was there, as far as that is known."""

    async def drain_node(self, id: str, by: str) -> bool:
        """Ask another node to shut down gracefully; return whether it is there.

        Raises:
            LogUnavailable, trio.ClosedResourceError, RuntimeError: it cannot be asked.
        """

    def drain(self, pid: int | None) -> bool:
        """Begin to shut down gracefully, as a signal does: the server with all its workers, or one worker.

        Return whether that worker was there, as far as that is known.
        """
